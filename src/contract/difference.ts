// Where two JSON values part first.
import { isObject } from '../json.ts';

/** Name and both values of the first field that differs, or null. Objects are compared by name. */
export function difference(
  field: string,
  expected: unknown,
  actual: unknown,
): [field: string, expected: unknown, actual: unknown] | null {
  if (isObject(expected) && isObject(actual)) {
    for (const name of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
      const found = difference(`${field}.${name}`, expected[name], actual[name]);
      if (found !== null) return found;
    }
    return null;
  }
  return JSON.stringify(expected) === JSON.stringify(actual) ? null : [field, expected, actual];
}
