// Requests that the schemas of docs/openapi.json allow, as fast-check generates them.
import fc from 'fast-check';
import type { Schema } from './openapi.ts';

/** Fields that say how much is to be done: kept small, so that thousands of requests end. */
const SMALL: Record<string, [least: number, most: number]> = {
  n: [1, 3],
  max_tokens: [0, 6],
  max_completion_tokens: [1, 6],
  max_output_tokens: [1, 6],
  min_tokens: [0, 6],
};

const word = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.string({ maxLength: 12, unit: 'grapheme' }),
  fc.constantFrom('', 'toy', 'Hello there. And then?', '\u0000', '<|end|>', '<|user|>', '🙂'),
);

/** Values of one schema. */
export function valuesOf(
  schema: Schema,
  schemas: Readonly<Record<string, Schema>>,
  field = '',
): fc.Arbitrary<unknown> {
  const of = (one: Schema, name = field) => valuesOf(one, schemas, name);
  if (schema.$ref !== undefined) return of(schemas[schema.$ref.split('/').at(-1) ?? ''] as Schema);
  if ('const' in schema) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  const either = schema.anyOf ?? schema.oneOf;
  if (either !== undefined) return fc.oneof(...either.map((one) => of(one)));
  if (Array.isArray(schema.type)) {
    return fc.oneof(...schema.type.map((type) => of({ ...schema, type })));
  }
  const [least, most] = SMALL[field] ?? [];
  switch (schema.type) {
    case 'null':
      return fc.constant(null);
    case 'boolean':
      return fc.boolean();
    case 'string':
      if (schema.pattern !== undefined) return fc.stringMatching(new RegExp(schema.pattern));
      return word.filter((text) => text.length >= (schema.minLength ?? 0));
    case 'integer':
      return fc.integer({
        min: least ?? schema.minimum ?? -5,
        max: most ?? Math.min(schema.maximum ?? 300, 300),
      });
    case 'number': {
      const from = schema.minimum ?? schema.exclusiveMinimum ?? -2;
      const number = fc.double({ min: from, max: schema.maximum ?? from + 3, noNaN: true });
      return number.filter((value) => value !== schema.exclusiveMinimum);
    }
    case 'array':
      return listOf(schema, of);
    default:
      return objectOf(schema, of);
  }
}

function listOf(schema: Schema, of: (one: Schema) => fc.Arbitrary<unknown>) {
  if (schema.prefixItems !== undefined) return fc.tuple(...schema.prefixItems.map(of));
  if (!schema.items) return fc.constant([]);
  const minLength = schema.minItems ?? 0;
  return fc.array(of(schema.items), { minLength, maxLength: Math.min(schema.maxItems ?? 3, 3) });
}

function objectOf(
  schema: Schema,
  of: (one: Schema, name: string) => fc.Arbitrary<unknown>,
): fc.Arbitrary<unknown> {
  const { properties = {}, required = [], additionalProperties: more } = schema;
  const names = Object.keys(properties);
  if (names.length === 0) {
    const value = typeof more === 'object' ? of(more, '') : fc.jsonValue({ maxDepth: 2 });
    const key =
      schema.propertyNames?.pattern === undefined
        ? fc.string({ maxLength: 8 })
        : fc.integer({ min: 0, max: 300 }).map(String);
    return fc.dictionary(key, value, { maxKeys: 3 });
  }
  const fields = names.map((name) => {
    const value = of(properties[name] as Schema, name);
    // Few optional fields each: most of them do not go together.
    return required.includes(name) || names.length < 6
      ? value.map((one) => [name, one] as const)
      : fc.oneof(
          { weight: 9, arbitrary: fc.constant(null) },
          { weight: 1, arbitrary: value.map((one) => [name, one] as const) },
        );
  });
  return fc
    .tuple(...fields)
    .map((pairs) => Object.fromEntries(pairs.filter((pair) => pair !== null)));
}
