// How deeply a JSON body is nested, found before it is parsed.
/** Deeper than any schema or conversation: a body beyond it is refused. */
export const MOST_DEPTH = 100;

const [QUOTE, BACKSLASH, OPEN_LIST, CLOSE_LIST, OPEN, CLOSE] = [...'"\\[]{}'].map((letter) =>
  letter.charCodeAt(0),
);

/**
 * Whether a body is nested more than `MOST_DEPTH` deep.
 *
 * @param body JSON in UTF-8; what is not JSON is for the parser to refuse
 */
export function isTooDeep(body: Uint8Array): boolean {
  let depth = 0;
  for (let i = 0; i < body.length; i++) {
    const byte = body[i];
    if (byte === QUOTE) i = endOfString(body, i + 1);
    else if (byte === OPEN || byte === OPEN_LIST) {
      depth += 1;
      if (depth > MOST_DEPTH) return true;
    } else if (byte === CLOSE || byte === CLOSE_LIST) depth -= 1;
  }
  return false;
}

/** Where the string that begins before `from` ends. */
function endOfString(body: Uint8Array, from: number): number {
  for (let end = body.indexOf(QUOTE as number, from); end !== -1; ) {
    let slashes = 0;
    while (body[end - 1 - slashes] === BACKSLASH) slashes += 1;
    if (slashes % 2 === 0) return end;
    end = body.indexOf(QUOTE as number, end + 1);
  }
  return body.length;
}
