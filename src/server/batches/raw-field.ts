// The text of one field of a JSON object as it was written: numbers stay as the client wrote them.

/** What matters for the structure: strings whole, brackets, and what parts fields. */
const tokens = /"(?:[^"\\]|\\.)*"|[{}[\]:,]/g;

/**
 * @param text JSON text of an object
 * @returns the text of the field's value, the last one where the name stands twice; null without the field
 */
export function rawField(text: string, name: string): string | null {
  let depth = 0;
  let key: string | null = null;
  let from = -1;
  let found: string | null = null;
  const close = (end: number): void => {
    if (key === name && from !== -1) found = text.slice(from, end).trim();
    key = null;
    from = -1;
  };
  for (const { 0: token, index } of text.matchAll(tokens)) {
    if (token === '{' || token === '[') depth += 1;
    else if (token === '}' || token === ']') {
      if (depth === 1) close(index);
      depth -= 1;
    } else if (depth !== 1) continue;
    else if (token === ',') close(index);
    else if (token === ':') from = index + 1;
    else if (from === -1) key = JSON.parse(token) as string;
  }
  return found;
}
