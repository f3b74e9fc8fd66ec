// Parts of a JSON text as they were written: numbers stay as their author wrote them.
import { endOfString } from './limits/depth.ts';

interface Part {
  /** Of an object's field; null in a list. */
  key: string | null;
  text: string;
}

/** What parts values and fields, and where strings begin. */
const marks = /["{}[\]:,]/g;

/**
 * @param text JSON text of an object
 * @returns the text of the field's value, the last one where the name stands twice; null without the field
 */
export function rawField(text: string, name: string): string | null {
  return partsOf(text).findLast(({ key }) => key === name)?.text ?? null;
}

/**
 * @param text JSON text of a list
 * @returns the text of each of its values
 */
export function rawItems(text: string): string[] {
  return partsOf(text).map((part) => part.text);
}

function partsOf(json: string): Part[] {
  const parts: Part[] = [];
  let depth = 0;
  let key: string | null = null;
  let from = 0;
  const close = (end: number): void => {
    const text = json.slice(from, end).trim();
    if (text !== '') parts.push({ key, text });
    from = end + 1;
    key = null;
  };
  const scan = new RegExp(marks);
  for (let found = scan.exec(json); found !== null; found = scan.exec(json)) {
    const { 0: mark, index } = found;
    if (mark === '"') scan.lastIndex = endOfString(json, index + 1) + 1;
    else if (mark === '{' || mark === '[') {
      if (depth === 0) from = index + 1;
      depth += 1;
    } else if (mark === '}' || mark === ']') {
      if (depth === 1) close(index);
      depth -= 1;
    } else if (depth !== 1) continue;
    else if (mark === ',') close(index);
    else {
      key = JSON.parse(json.slice(from, index)) as string;
      from = index + 1;
    }
  }
  return parts;
}
