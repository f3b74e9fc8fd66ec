// The text of one field of a JSON object as it was written: numbers stay as the client wrote them.
import { endOfString } from '../limits/depth.ts';

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
  // By hand: a regular expression that matches whole strings overflows its stack on long ones.
  for (let at = 0; at < text.length; at++) {
    const letter = text[at];
    if (letter === '"') {
      const end = endOfString(text, at + 1);
      if (depth === 1 && from === -1) key = JSON.parse(text.slice(at, end + 1)) as string;
      at = end;
    } else if (letter === '{' || letter === '[') depth += 1;
    else if (letter === '}' || letter === ']') {
      if (depth === 1) close(at);
      depth -= 1;
    } else if (depth !== 1) continue;
    else if (letter === ',') close(at);
    else if (letter === ':') from = at + 1;
  }
  return found;
}
