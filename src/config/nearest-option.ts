// The option that a misspelled name of a config may have meant.
import type { z } from 'zod';

/** ` (did you mean retrieval?)`, or nothing where no option of that place is near. */
export function nearestOption(
  schema: z.ZodType,
  path: readonly PropertyKey[],
  key: string,
): string {
  const names = optionsAt(schema, path);
  const near = names
    .map((name) => ({ name, edits: editsBetween(key.toLowerCase(), name.toLowerCase()) }))
    .filter(({ name, edits }) => edits <= Math.max(1, Math.floor(name.length / 3)))
    .sort((a, b) => a.edits - b.edits);
  return near[0] === undefined ? '' : ` (did you mean ${near[0].name}?)`;
}

/** Names of the options at a place of the schema. */
function optionsAt(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let place: z.core.$ZodType | undefined = bare(schema);
  for (const key of path) {
    const { def } = (place as z.core.$ZodType)._zod;
    const below: z.core.$ZodType | undefined =
      def.type === 'array'
        ? (def as z.core.$ZodArrayDef).element
        : (def as Partial<z.core.$ZodObjectDef>).shape?.[String(key)];
    if (below === undefined) return [];
    place = bare(below);
  }
  return Object.keys((place._zod.def as Partial<z.core.$ZodObjectDef>).shape ?? {});
}

/** The schema inside defaults, optionals and transforms. */
function bare(schema: z.core.$ZodType): z.core.$ZodType {
  const { innerType, in: input } = schema._zod.def as {
    innerType?: z.core.$ZodType;
    in?: z.core.$ZodType;
  };
  const inner = innerType ?? input;
  return inner === undefined ? schema : bare(inner);
}

/** How many letters to insert, remove, replace or swap with their neighbour. */
function editsBetween(a: string, b: string): number {
  const rows = [...a, ''].map(() => new Array<number>(b.length + 1).fill(0));
  const at = (i: number, j: number): number => rows[i]?.[j] as number;
  for (let i = 0; i <= a.length; i++) {
    for (let j = 0; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = i === 0 ? j : j === 0 ? i : at(i - 1, j - 1) + same;
      if (i > 0 && j > 0) least = Math.min(least, at(i - 1, j) + 1, at(i, j - 1) + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, at(i - 2, j - 2) + 1);
      (rows[i] as number[])[j] = least;
    }
  }
  return at(a.length, b.length);
}
