// A JSON Schema as a grammar. A part of the language, stated in docs/http-api.md: what is not in it is refused by
// name, for a text that silently breaks a rule is worse than none.
import { isObject } from '../../json.ts';
import { endlessNodes } from './endless.ts';
import { choice, literal, MOST_ALTERNATIVES, type Node, reference, sequence } from './grammar.ts';
import { between } from './integers.ts';
import * as json from './json.ts';
import { checkOneOf } from './one-of.ts';
import { pointed } from './pointer.ts';
import { at, refused } from './refused.ts';

type Schema = Readonly<Record<string, unknown>>;

/** Most schemas within each other, references followed, and most references to different places. */
const MOST_DEPTH = 250;
const MOST_REFERENCES = 1000;

/** They say nothing about which values are right. */
const ANNOTATIONS = new Set([
  ...['title', 'description', 'default', 'examples', 'deprecated', 'readOnly', 'writeOnly'],
  ...['$schema', '$id', '$comment', '$defs', 'definitions', 'discriminator'],
]);

/** The rules that are followed, by the type that they are about. */
const RULES: Readonly<Record<string, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems'],
  string: ['minLength', 'maxLength'],
  integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  number: [],
  boolean: [],
  null: [],
};

/** Compiles one schema, with what its references point at. */
export class SchemaReader {
  readonly #root: unknown;
  /** By pointer: what stands for the grammar, and the grammar once it is read. */
  readonly #pointed = new Map<string, { node: Node; grammar: Node | undefined }>();
  #depth = 0;

  /** @param root what `#` in a reference means */
  constructor(root: unknown) {
    this.#root = root;
  }

  /**
   * The grammar of the whole schema.
   *
   * @throws LS_FORM_SCHEMA as `read`; for a schema that refers to itself so that no value has an end
   */
  readWhole(): Node {
    const whole = this.read();
    const endless = endlessNodes(whole);
    for (const [pointer, { node }] of this.#pointed) {
      if (endless.has(node)) throw refused(pointer.slice(1), 'a schema that a finite value fits');
    }
    return whole;
  }

  /**
   * The grammar of the values that a schema allows; not all of them where it says so in the docs.
   *
   * @throws LS_FORM_SCHEMA with the path of what is not supported
   */
  read(schema: unknown = this.#root, path = ''): Node {
    this.#depth += 1;
    if (this.#depth > MOST_DEPTH) throw refused(path, `nesting of at most ${MOST_DEPTH} schemas`);
    const node = this.#read(schema, path);
    this.#depth -= 1;
    return node;
  }

  #read(schema: unknown, path: string): Node {
    if (schema === true) return json.anyValue;
    if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
      throw refused(path, `a schema, got ${JSON.stringify(schema)?.slice(0, 80)}`);
    }
    const rules = Object.keys(schema).filter((name) => !ANNOTATIONS.has(name));
    const given = schema as Schema;
    for (const alone of ['$ref', 'anyOf', 'oneOf', 'allOf'] as const) {
      if (!(alone in given)) continue;
      const other = rules.find((name) => name !== alone);
      if (other !== undefined) {
        throw refused(at(path, other), `\`${alone}\` without other keywords`);
      }
      return this.#combined(alone, given[alone], at(path, alone));
    }
    if ('const' in given || 'enum' in given) return this.#values(given, rules, path);
    if (rules.length === 0) return json.anyValue;
    const types = this.#types(given, rules, path);
    const known = new Set(['type', ...types.flatMap((type) => RULES[type] ?? [])]);
    const other = rules.find((name) => !known.has(name));
    if (other !== undefined) throw refused(at(path, other), 'a supported keyword');
    return choice(...types.map((type) => this.#typed(type, given, path)));
  }

  #combined(how: '$ref' | 'anyOf' | 'oneOf' | 'allOf', value: unknown, path: string): Node {
    if (how === '$ref') return this.#reference(value, path);
    if (!Array.isArray(value) || value.length === 0) throw refused(path, 'a list of schemas');
    if (value.length > MOST_REFERENCES) throw refused(path, `at most ${MOST_REFERENCES} schemas`);
    if (how === 'allOf' && value.length > 1) throw refused(path, 'a list of one schema');
    if (how === 'oneOf') checkOneOf(value, this.#root, path);
    return choice(...value.map((one, i) => this.read(one, at(path, i))));
  }

  #reference(pointer: unknown, path: string): Node {
    if (typeof pointer !== 'string' || !pointer.startsWith('#')) {
      throw refused(path, 'a reference into the same schema (#...)');
    }
    const known = this.#pointed.get(pointer);
    if (known !== undefined) return known.node;
    const target = pointed(this.#root, pointer);
    if (target === undefined) {
      throw refused(path, `a reference to an existing schema, got ${pointer}`);
    }
    if (this.#pointed.size === MOST_REFERENCES) {
      throw refused(path, `references to at most ${MOST_REFERENCES} places`);
    }
    // Known before it is read: it may hold itself.
    const own: { node: Node; grammar: Node | undefined } = {
      node: reference(() => own.grammar as Node),
      grammar: undefined,
    };
    this.#pointed.set(pointer, own);
    own.grammar = this.read(target, path);
    if (beginsWithItself(own.grammar)) {
      throw refused(path, `a reference that does not only refer to itself, got ${pointer}`);
    }
    return own.node;
  }

  #values(schema: Schema, rules: readonly string[], path: string): Node {
    const other = rules.find((name) => !['const', 'enum', 'type'].includes(name));
    if (other !== undefined) {
      throw refused(at(path, other), '`const` or `enum` with no keyword but `type`');
    }
    const values = 'const' in schema ? [schema['const']] : schema['enum'];
    if (!Array.isArray(values) || values.length === 0) {
      throw refused(at(path, 'enum'), 'a list of values');
    }
    const types = 'type' in schema ? this.#types(schema, rules, path) : null;
    const right = values.filter((value) => types?.some((type) => isOf(value, type)) ?? true);
    if (right.length === 0) throw refused(path, 'a value that matches `type`');
    return choice(...right.map(constant));
  }

  #types(schema: Schema, rules: readonly string[], path: string): string[] {
    const { type } = schema;
    if (type === undefined) {
      // Values of other types would be right as well; one of this type always is.
      const meant = Object.keys(RULES).find((name) =>
        rules.some((rule) => RULES[name]?.includes(rule)),
      );
      if (meant === undefined) throw refused(at(path, rules[0] as string), 'a supported keyword');
      return [meant];
    }
    const types = Array.isArray(type) ? type : [type];
    const unknown = types.find((one) => typeof one !== 'string' || !Object.hasOwn(RULES, one));
    if (unknown !== undefined || types.length === 0) {
      throw refused(at(path, 'type'), `types of JSON, got ${JSON.stringify(type)}`);
    }
    return types;
  }

  #typed(type: string, schema: Schema, path: string): Node {
    switch (type) {
      case 'object':
        return this.#object(schema, path);
      case 'array':
        return this.#array(schema, path);
      case 'string': {
        const [min, max] = bounds(schema, 'minLength', 'maxLength', path);
        return json.string(min, max);
      }
      case 'integer':
        return this.#integer(schema, path);
      case 'number':
        return json.number;
      case 'boolean':
        return json.boolean;
      default:
        return json.nothing;
    }
  }

  #integer(schema: Schema, path: string): Node {
    const rules = RULES['integer']?.filter((name) => schema[name] !== undefined) ?? [];
    if (rules.length === 0) return json.integer;
    let [least, most] = [-Infinity, Infinity];
    for (const name of rules) {
      const value = schema[name];
      if (typeof value !== 'number') {
        throw refused(at(path, name), `a number, got ${JSON.stringify(value)}`);
      }
      // The next whole number beyond an excluded one.
      if (name === 'minimum') least = Math.max(least, value);
      if (name === 'maximum') most = Math.min(most, value);
      if (name === 'exclusiveMinimum') least = Math.max(least, Math.floor(value) + 1);
      if (name === 'exclusiveMaximum') most = Math.min(most, Math.ceil(value) - 1);
    }
    const node = between(least, most);
    if (node === null) throw refused(at(path, rules[0] as string), 'a whole number within bounds');
    return node;
  }

  #object(schema: Schema, path: string): Node {
    const { properties = {}, required = [], additionalProperties: more } = schema;
    if (!isObject(properties)) throw refused(at(path, 'properties'), 'an object of schemas');
    if (!Array.isArray(required) || required.some((name) => typeof name !== 'string')) {
      throw refused(at(path, 'required'), 'a list of names');
    }
    const needed = new Set<string>(required);
    if (Object.keys(properties).length + needed.size > MOST_ALTERNATIVES) {
      throw refused(path, `at most ${MOST_ALTERNATIVES} properties`);
    }
    const members = Object.entries(properties).flatMap(([name, one]): Member[] => {
      if (one === false && !needed.has(name)) return [];
      const value = this.read(one, at(at(path, 'properties'), name));
      return [{ node: json.property(name, value), needed: needed.has(name) }];
    });
    const unnamed = (): Node =>
      more === undefined ? json.anyValue : this.read(more, at(path, 'additionalProperties'));
    for (const name of needed) {
      if (Object.hasOwn(properties, name)) continue;
      if (more === false) throw refused(at(path, 'required'), `a property ${JSON.stringify(name)}`);
      members.push({ node: json.property(name, unnamed()), needed: true });
    }
    if (members.length > 0) return membersOf(members);
    if (more === false) return json.empty('{', '}');
    return json.list('{', '}', json.member(json.anyString, unnamed()), 0, Infinity);
  }

  #array(schema: Schema, path: string): Node {
    const [min, max] = bounds(schema, 'minItems', 'maxItems', path);
    const { items, prefixItems } = schema;
    if (prefixItems === undefined) {
      if (items === false) return json.empty('[', ']');
      const item = items === undefined ? json.anyValue : this.read(items, at(path, 'items'));
      return json.list('[', ']', item, min, max);
    }
    if (!Array.isArray(prefixItems)) throw refused(at(path, 'prefixItems'), 'a list of schemas');
    const known = prefixItems.slice(0, max);
    if (min > known.length)
      throw refused(at(path, 'minItems'), `at most ${known.length} with \`prefixItems\``);
    const nodes = known.map((one, i) => this.read(one, at(at(path, 'prefixItems'), i)));
    return membersOf(
      nodes.map((node, i) => ({ node, needed: i < min })),
      '[',
      ']',
      true,
    );
  }
}

interface Member {
  node: Node;
  needed: boolean;
}

/** The texts of one value, whatever its white space. */
function constant(value: unknown): Node {
  if (Array.isArray(value)) {
    return membersOf(
      value.map((one) => ({ node: constant(one), needed: true })),
      '[',
      ']',
    );
  }
  if (!isObject(value)) return literal(JSON.stringify(value));
  const members = Object.entries(value).map(([name, one]) => ({
    node: json.property(name, constant(one)),
    needed: true,
  }));
  return membersOf(members);
}

/**
 * Members in their order, each that is not needed left out at will.
 *
 * @param prefix what is left out ends the list
 */
function membersOf(members: readonly Member[], open = '{', close = '}', prefix = false): Node {
  const end = literal(close);
  /** From the last to the first: the members from one on, and whether none of them is needed. */
  let from: Node | null = null;
  let free = true;
  for (const { node, needed } of members.toReversed()) {
    const here = sequence(node, json.space, next(from, free, sequence(literal(','), json.space)));
    from = from === null || needed || prefix ? here : choice(here, from);
    free &&= !needed;
  }
  return sequence(literal(open), json.space, next(from, free, literal('')));

  function next(rest: Node | null, mayEnd: boolean, comma: Node): Node {
    if (rest === null) return end;
    return mayEnd ? choice(sequence(comma, rest), end) : sequence(comma, rest);
  }
}

function bounds(schema: Schema, least: string, most: string, path: string): [number, number] {
  const of = (name: string, usual: number): number => {
    const value = schema[name] ?? usual;
    if (value === usual) return usual;
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    throw refused(at(path, name), `a whole number, got ${JSON.stringify(value)}`);
  };
  const [min, max] = [of(least, 0), of(most, Infinity)];
  if (min > max) throw refused(at(path, least), `at most ${max}, got ${min}`);
  return [min, max];
}

/** Whether a node is met again before any byte: such a grammar has no text. */
function beginsWithItself(node: Node): boolean {
  const met = new Set<Node>();
  const open = [node];
  for (let here = open.pop(); here !== undefined; here = open.pop()) {
    const { kind } = here;
    // One that is not read yet is checked when it is.
    const under = kind === 'choice' ? here.parts : kind === 'reference' ? [here.target()] : [];
    for (const one of under) {
      if (one === node) return true;
      if (one === undefined || met.has(one)) continue;
      met.add(one);
      open.push(one);
    }
  }
  return false;
}

function isOf(value: unknown, type: string): boolean {
  if (type === 'null') return value === null;
  if (type === 'array') return Array.isArray(value);
  if (type === 'object') return isObject(value);
  if (type === 'integer') return Number.isInteger(value);
  return typeof value === type;
}
