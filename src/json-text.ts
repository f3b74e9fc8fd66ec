// JSON files read as Python reads them: UTF-8 without a mark, and how each number was written.

/** Numbers outside strings, and strings, which are stepped over. */
const tokens = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/**
 * Text of JSON bytes.
 *
 * @throws TypeError for bytes that are not UTF-8; a byte order mark stays, and JSON.parse refuses it
 */
export function jsonText(data: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data);
}

/**
 * The same document with every number as the text it was written as: `4.0` is no integer to
 * transformers, and JSON.parse cannot tell it from `4`.
 *
 * @param text valid JSON
 */
export function withLiterals(text: string): unknown {
  return JSON.parse(
    text.replace(tokens, (token) => (token.startsWith('"') ? token : `"${token}"`)),
  );
}

/** A value of a JSON file in an error. */
export function show(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}
