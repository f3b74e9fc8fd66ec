// lockstep.json as text: objects spread out for reading, lists of numbers on one line.

/** JSON text of a contract, ending in a newline. */
export function formatContract(contract: object): string {
  return `${print(contract, '')}\n`;
}

function print(value: unknown, indent: string): string {
  if (value === null || typeof value !== 'object') return JSON.stringify(value);
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    if (!value.some(holdsObject)) return JSON.stringify(value);
    return `[\n${value.map((entry) => inner + print(entry, inner)).join(',\n')}\n${indent}]`;
  }
  const entries = Object.entries(value);
  if (entries.length === 0) return '{}';
  const lines = entries.map(
    ([key, entry]) => `${inner}${JSON.stringify(key)}: ${print(entry, inner)}`,
  );
  return `{\n${lines.join(',\n')}\n${indent}}`;
}

function holdsObject(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(holdsObject);
  return value !== null && typeof value === 'object';
}
