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

/** Where the string of this JSON, in UTF-8 or as a text, ends that begins before `from`: the place of its last quote. */
export function endOfString(json: Uint8Array | string, from: number): number {
  let end = quoteFrom(json, from);
  while (end !== -1) {
    let last = end - 1;
    while ((typeof json === 'string' ? json.charCodeAt(last) : json[last]) === BACKSLASH) last -= 1;
    // Backslashes before it that escape each other escape no quote.
    if ((end - 1 - last) % 2 === 0) return end;
    end = quoteFrom(json, end + 1);
  }
  return json.length;
}

function quoteFrom(json: Uint8Array | string, from: number): number {
  return typeof json === 'string' ? json.indexOf('"', from) : json.indexOf(QUOTE as number, from);
}
