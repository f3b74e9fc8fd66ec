// Whether the schemas of a `oneOf` shut each other out, so that it means the same as `anyOf`.
import { isDeepStrictEqual } from 'node:util';
import { pointed } from './pointer.ts';
import { refused } from './refused.ts';

type Schema = Readonly<Record<string, unknown>>;

/** @throws LS_FORM_SCHEMA where a value might be of two of them */
export function checkOneOf(schemas: readonly unknown[], root: unknown, path: string): void {
  const all = schemas.map((one) => resolved(one, root));
  all.forEach((one, i) => {
    if (all.slice(0, i).some((other) => mayShare(one, other, root))) {
      throw refused(path, 'schemas that differ by `type` or by a required `const`');
    }
  });
}

function resolved(schema: unknown, root: unknown): Schema {
  let here = schema;
  for (let i = 0; i < 32; i++) {
    if (typeof here !== 'object' || here === null) return {};
    const { $ref } = here as Schema;
    if (typeof $ref !== 'string') return here as Schema;
    here = pointed(root, $ref);
  }
  return {};
}

function mayShare(a: Schema, b: Schema, root: unknown): boolean {
  const [values, others] = [valuesOf(a), valuesOf(b)];
  if (values !== null && others !== null) return share(values, others);
  const [types, more] = [typesOf(a), typesOf(b)];
  if (types !== null && more !== null && !types.some((one) => more.includes(one))) return false;
  return !requiredOf(a).some((name) => {
    if (!requiredOf(b).includes(name)) return false;
    const [own, their] = [a, b].map((one) => valuesOf(propertyOf(one, name, root)));
    return own != null && their != null && !share(own, their);
  });
}

/** Null where any value may be right. */
function valuesOf(schema: Schema): unknown[] | null {
  if ('const' in schema) return [schema['const']];
  return Array.isArray(schema['enum']) ? schema['enum'] : null;
}

/** Whether a value is in both, whatever the order of its properties. */
function share(values: readonly unknown[], others: readonly unknown[]): boolean {
  return values.some((one) => others.some((other) => isDeepStrictEqual(one, other)));
}

function typesOf(schema: Schema): unknown[] | null {
  const { type } = schema;
  if (type === undefined) return null;
  const types = Array.isArray(type) ? type : [type];
  return types.map((one) => (one === 'integer' ? 'number' : one));
}

function requiredOf(schema: Schema): unknown[] {
  return Array.isArray(schema['required']) ? schema['required'] : [];
}

function propertyOf(schema: Schema, name: unknown, root: unknown): Schema {
  const properties = schema['properties'];
  if (typeof properties !== 'object' || properties === null) return {};
  return resolved((properties as Schema)[String(name)], root);
}
