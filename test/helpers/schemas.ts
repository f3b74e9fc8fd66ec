// Random JSON schemas of the supported rules, values that fit them, and a validator that shares nothing with
// the machine that holds texts to them.

// biome-ignore lint/suspicious/noExplicitAny: schemas are looked into freely here
type Any = any;
type Random = (below: number) => number;

const NAMES = ['a', 'name', 'größe', 'a "b"', 'x\\y', '7'];
const TEXTS = ['', 'a', 'left', 'ß', '☃', '🌊 b', 'say "no"', 'line\nline', '\u0007'];

/** A schema whose `$defs` hold what it refers to. */
export function randomSchema(random: Random): Any {
  const $defs = { one: schemaOf(random, 1), two: schemaOf(random, 1) };
  const root = schemaOf(random, 3);
  return '$ref' in root || 'anyOf' in root || typeof root !== 'object'
    ? { type: 'object', properties: { it: root }, required: ['it'], $defs }
    : { ...root, $defs };
}

function schemaOf(random: Random, depth: number): Any {
  const kind = random(depth > 0 ? 11 : 6);
  if (kind === 0) return { type: 'integer' };
  if (kind === 1) return { type: random(2) === 0 ? 'number' : ['boolean', 'null'] };
  if (kind === 2) return { type: 'string' };
  if (kind === 3) return { type: 'string', minLength: random(3), maxLength: 3 + random(5) };
  if (kind === 4) return { enum: [random(9), TEXTS[random(TEXTS.length)], null, { a: [1] }] };
  if (kind === 5) return { const: TEXTS[random(TEXTS.length)], description: 'a' };
  if (kind === 6) return depth < 2 ? {} : { $ref: `#/$defs/${['one', 'two'][random(2)]}` };
  if (kind === 7) return { anyOf: [schemaOf(random, depth - 1), schemaOf(random, depth - 1)] };
  if (kind === 8) {
    const [min, more] = [random(3), random(3)];
    return {
      type: 'array',
      items: schemaOf(random, depth - 1),
      minItems: min,
      maxItems: min + more,
    };
  }
  if (kind === 9) {
    return { type: 'object', additionalProperties: schemaOf(random, depth - 1) };
  }
  const names = NAMES.slice(random(3), 3 + random(4));
  const properties = Object.fromEntries(names.map((name) => [name, schemaOf(random, depth - 1)]));
  const required = names.filter(() => random(2) === 0);
  return { type: 'object', properties, required, additionalProperties: false };
}

/** A value that fits, its properties in the schema's order. */
export function randomValue(schema: Any, root: Any, random: Random): Any {
  if (schema.$ref !== undefined) {
    return randomValue(root.$defs[schema.$ref.split('/').at(-1)], root, random);
  }
  if (schema.anyOf !== undefined) {
    return randomValue(schema.anyOf[random(schema.anyOf.length)], root, random);
  }
  if ('const' in schema) return schema.const;
  if (schema.enum !== undefined) return schema.enum[random(schema.enum.length)];
  const type = Array.isArray(schema.type) ? schema.type[random(schema.type.length)] : schema.type;
  switch (type) {
    case 'integer':
      return random(2000) - 1000;
    case 'number':
      return (random(2000) - 1000) / 8;
    case 'boolean':
      return random(2) === 0;
    case 'null':
      return null;
    case 'string': {
      if (schema.maxLength === undefined) return TEXTS[random(TEXTS.length)];
      const { minLength, maxLength } = schema;
      const length = minLength + random(maxLength - minLength + 1);
      return Array.from({ length }, () => ['a', 'ß', '🌊', '"'][random(4)]).join('');
    }
    case 'array': {
      const length = schema.minItems + random(schema.maxItems - schema.minItems + 1);
      return Array.from({ length }, () => randomValue(schema.items, root, random));
    }
    case 'object': {
      if (schema.properties === undefined) {
        return { k: randomValue(schema.additionalProperties, root, random) };
      }
      const names = Object.keys(schema.properties).filter(
        (name) => schema.required.includes(name) || random(2) === 0,
      );
      return Object.fromEntries(
        names.map((name) => [name, randomValue(schema.properties[name], root, random)]),
      );
    }
    default:
      return [{ free: [true, 1.5, 'x'] }];
  }
}

/** Whether a value fits a schema of these rules. */
export function isValid(value: Any, schema: Any, root: Any): boolean {
  if (schema.$ref !== undefined) {
    return isValid(value, root.$defs[schema.$ref.split('/').at(-1)], root);
  }
  if (schema.anyOf !== undefined) return schema.anyOf.some((one: Any) => isValid(value, one, root));
  const same = (one: Any) => JSON.stringify(one) === JSON.stringify(value);
  if ('const' in schema) return same(schema.const);
  if (schema.enum !== undefined) return schema.enum.some(same);
  const types = [schema.type ?? []].flat();
  if (
    types.length > 0 &&
    !types.includes(typeOf(value)) &&
    !(types.includes('number') && typeof value === 'number')
  ) {
    return false;
  }
  if (typeof value === 'string') {
    const length = [...value].length;
    return length >= (schema.minLength ?? 0) && length <= (schema.maxLength ?? Infinity);
  }
  if (Array.isArray(value)) {
    if (value.length < (schema.minItems ?? 0) || value.length > (schema.maxItems ?? Infinity)) {
      return false;
    }
    return value.every((one) => isValid(one, schema.items ?? {}, root));
  }
  if (typeof value !== 'object' || value === null) return true;
  if ((schema.required ?? []).some((name: string) => !Object.hasOwn(value, name))) return false;
  return Object.entries(value).every(([name, one]) => {
    const own = schema.properties?.[name] ?? schema.additionalProperties ?? {};
    return own !== false && isValid(one, own, root);
  });
}

function typeOf(value: Any): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return Number.isInteger(value) ? 'integer' : typeof value;
}
