// How deeply a JSON body is nested, found before it is parsed.
import { HttpError } from '../errors.ts';

/** Deeper than any schema or conversation: a body beyond it is refused. */
export const MOST_DEPTH = 100;

const [QUOTE, BACKSLASH, OPEN_LIST, CLOSE_LIST, OPEN, CLOSE] = [...'"\\[]{}'].map((letter) =>
  letter.charCodeAt(0),
);

/**
 * @param body JSON in UTF-8; what is not JSON is for the parser to refuse
 * @throws HttpError 400 for one that is nested more than `MOST_DEPTH` deep
 */
export function checkDepth(body: Uint8Array): void {
  let depth = 0;
  for (let i = 0; i < body.length; i++) {
    const byte = body[i];
    if (byte === QUOTE) i = endOfString(body, i + 1);
    else if (byte === OPEN || byte === OPEN_LIST) {
      depth += 1;
      if (depth > MOST_DEPTH) throw tooDeep();
    } else if (byte === CLOSE || byte === CLOSE_LIST) depth -= 1;
  }
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

function tooDeep(): HttpError {
  return new HttpError(
    400,
    `Expected a body nested at most ${MOST_DEPTH} deep, got a deeper one.`,
    { code: 'body_too_deep' },
  );
}
