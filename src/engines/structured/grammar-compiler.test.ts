import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomIntegers } from '../../../test/helpers/random.ts';
import { isValid, randomSchema, randomValue } from '../../../test/helpers/schemas.ts';
import { makeToy, type Toy } from '../../../test/server-toy.ts';
import { packageRoot } from '../../paths.ts';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/tokenizer.ts';
import { CompiledGrammar, type State } from './grammar.ts';
import { GrammarCompiler, type ResponseFormat } from './grammar-compiler.ts';
import { SchemaReader } from './schema.ts';

const smollm = path.join(packageRoot, '.lockstep', 'models', 'smollm2-135m-instruct');
let toy: Toy;
let words: Tokenizer;
beforeAll(async () => {
  toy = await makeToy();
  if (!existsSync(smollm)) throw new Error(`expected ${smollm}: npm run setup`);
  words = await loadTokenizer(smollm);
});
afterAll(() => rm(toy.dir, { recursive: true, force: true }));

const held = (schema: unknown): ResponseFormat => ({
  type: 'json_schema',
  json_schema: { schema },
});

/** One for each tokenizer, as in a server: its vocabulary is read once. */
const made = new Map<Tokenizer, GrammarCompiler>();
function compilerOf(tokenizer: Tokenizer): GrammarCompiler {
  const compiler = made.get(tokenizer) ?? new GrammarCompiler(tokenizer, tokenizer.ends);
  made.set(tokenizer, compiler);
  return compiler;
}

/** Ids that the grammar lets through after a text. */
function allowedAfter(tokenizer: Tokenizer, format: ResponseFormat, ids: readonly number[]) {
  const matcher = compilerOf(tokenizer).compile(format)();
  for (const id of ids) matcher.accept(id);
  const logits = new Float32Array(tokenizer.vocabulary.size);
  matcher.mask(logits);
  return new Set([...logits.keys()].filter((id) => logits[id] === 0));
}

/** Draw tokens at random, those of JSON's own characters more often, until the text ends. */
function drawn(tokenizer: Tokenizer, format: ResponseFormat, seed: number): string | null {
  const random = randomIntegers(seed);
  const matcher = compilerOf(tokenizer).compile(format)();
  const ids: number[] = [];
  for (let step = 0; step < 400; step++) {
    const logits = new Float32Array(tokenizer.vocabulary.size + 3).fill(1);
    matcher.mask(logits);
    const open = [...logits.keys()].filter((id) => logits[id] === 1);
    expect(open.length, tokenizer.decode(ids)).toBeGreaterThan(0);
    expect(open.every((id) => id < tokenizer.vocabulary.size)).toBe(true);
    const end = open.find((id) => tokenizer.ends.includes(id));
    if (end !== undefined && random(2) === 0) return tokenizer.decode(ids);
    const closing = open.filter((id) => /^["}\],:0-9]+$/.test(tokenizer.vocabulary.text(id)));
    const from = closing.length > 0 && random(4) > 0 ? closing : open;
    const id = from[random(from.length)] as number;
    matcher.accept(id);
    if (tokenizer.ends.includes(id)) return tokenizer.decode(ids);
    ids.push(id);
  }
  return null;
}

describe('a text held to a schema', () => {
  it('is JSON that fits it, whatever is drawn', { timeout: 120_000 }, () => {
    let ended = 0;
    for (let seed = 1; seed <= 150; seed++) {
      const schema = randomSchema(randomIntegers(seed));
      const text = drawn(seed % 3 === 0 ? words : toy.tokenizer, held(schema), seed);
      if (text === null) continue;
      ended += 1;
      const value: unknown = JSON.parse(text);
      expect(isValid(value, schema, schema), `${JSON.stringify(schema)}\n${text}`).toBe(true);
    }
    expect(ended).toBeGreaterThan(75);
  });

  it('can be every value that the schema generates, written by any tokens', {
    timeout: 120_000,
  }, async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const random = randomIntegers(seed);
      const schema = randomSchema(random);
      const value = randomValue(schema, schema, random);
      const text = JSON.stringify(value, null, [0, 2, 4][seed % 3]);
      for (const tokenizer of [toy.tokenizer, words]) {
        const ids = Array.from(await tokenizer.encode(text));
        const matcher = compilerOf(tokenizer).compile(held(schema))();
        for (const id of ids) {
          const logits = new Float32Array(tokenizer.vocabulary.size);
          matcher.mask(logits);
          expect(logits[id], `${JSON.stringify(schema)}\n${text}`).toBe(0);
          matcher.accept(id);
        }
        const last = new Float32Array(tokenizer.vocabulary.size);
        matcher.mask(last);
        expect(tokenizer.ends.every((id) => last[id] === 0)).toBe(true);
      }
    }
  });

  it('allows the ids after which the text can still become one, and no other', async () => {
    const format = held({ enum: ['left', 'right', 7, null] });
    const whole = ['"left"', '"right"', '7', 'null'];
    const ids = Array.from(await words.encode('"le'));
    const before = words.decode(ids);
    const allowed = allowedAfter(words, format, ids);
    for (let id = 0; id < words.vocabulary.size; id++) {
      const text = before + words.vocabulary.text(id);
      const right =
        !words.vocabulary.special(id) &&
        words.bytes(id).length > 0 &&
        whole.some((one) => one.startsWith(text));
      expect(allowed.has(id), text).toBe(right);
    }
  });

  it('ends where it is complete, and nowhere else', async () => {
    const ends = (text: string) =>
      words
        .encode(text)
        .then((ids) => allowedAfter(words, { type: 'json_object' }, Array.from(ids)))
        .then((allowed) => words.ends.some((id) => allowed.has(id)));
    expect(await ends('{"a": [1, {"b": "c"}]')).toBe(false);
    expect(await ends('{"a": [1, {"b": "c"}]}')).toBe(true);
    expect(await ends('{')).toBe(false);
  });

  it('may nest by references', async () => {
    const schema = {
      $ref: '#/$defs/node',
      $defs: {
        node: {
          type: 'object',
          properties: { next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
          required: ['next'],
          additionalProperties: false,
        },
      },
    };
    const ids = Array.from(await words.encode('{"next": {"next": {"next": null}}}'));
    const allowed = allowedAfter(words, held(schema), ids);
    expect([...allowed]).toEqual(expect.arrayContaining([...words.ends]));
  });
});

describe('whole numbers between bounds', () => {
  const accepts = (grammar: CompiledGrammar, text: string): boolean => {
    let state: State | null = grammar.start;
    for (const byte of Buffer.from(text)) state = state && grammar.step(state, byte);
    return state?.ends ?? false;
  };

  it.each([
    [{ minimum: 0, maximum: 10 }, 0, 10],
    [{ minimum: -7, maximum: 123 }, -7, 123],
    [{ exclusiveMinimum: -31, exclusiveMaximum: -5.5 }, -30, -6],
    [{ minimum: 99.5, maximum: 1001 }, 100, 1001],
    [{ minimum: 38 }, 38, Infinity],
    [{ exclusiveMaximum: 40 }, -Infinity, 39],
    [{ minimum: 5, maximum: 5 }, 5, 5],
  ])('%j', (schema, least, most) => {
    const grammar = new CompiledGrammar(new SchemaReader({ type: 'integer', ...schema }).read());
    for (let value = -150; value <= 1100; value++) {
      expect(accepts(grammar, String(value)), `${value}`).toBe(value >= least && value <= most);
    }
    for (const text of ['', '-', '-0', '00', '07', '1.0', '1e1', '+1']) {
      expect(accepts(grammar, text), text).toBe(false);
    }
    expect(accepts(grammar, '999999999999999')).toBe(most === Infinity);
    expect(accepts(grammar, '-999999999999999')).toBe(least === -Infinity);
  });
});

describe('a schema that is not supported is refused by name', () => {
  it.each([
    [{ type: 'string', pattern: 'a' }, '/pattern'],
    [
      { type: 'object', properties: { a: { type: 'string', format: 'date' } } },
      '/properties/a/format',
    ],
    [{ type: 'array', items: { type: 'number', minimum: 1 } }, '/items/minimum'],
    [{ type: 'integer', minimum: 2, exclusiveMaximum: 2 }, '/minimum'],
    [{ type: 'integer', maximum: '2' }, '/maximum'],
    [{ type: 'array', uniqueItems: true }, '/uniqueItems'],
    [{ type: 'object', patternProperties: {} }, '/patternProperties'],
    [{ not: {} }, '/not'],
    [{ $ref: 'https://example.org/a' }, '/$ref'],
    [{ $ref: '#/$defs/a' }, '/$ref'],
    [{ $ref: '#' }, '/$ref'],
    [{ anyOf: [{ $ref: '#' }, { type: 'null' }] }, '/anyOf/0/$ref'],
    [{ anyOf: [], title: 'a' }, '/anyOf'],
    [{ anyOf: [{ type: 'null' }], minLength: 1 }, '/minLength'],
    [{ oneOf: [{ type: 'integer' }, { type: 'number' }] }, '/oneOf'],
    [{ allOf: [{ type: 'string' }, { minLength: 1 }] }, '/allOf'],
    [{ type: 'thing' }, '/type'],
    [{ type: 'string', minLength: 3, maxLength: 2 }, '/minLength'],
    [{ type: 'string', minLength: 0.5 }, '/minLength'],
    [{ type: 'string', enum: [1] }, 'the root'],
    [{ type: 'object', required: ['a'], additionalProperties: false }, '/required'],
    [{ type: 'array', prefixItems: [{}], minItems: 2 }, '/minItems'],
    [false, 'the root'],
  ])('%j', (schema, where) => {
    const compiler = compilerOf(toy.tokenizer);
    expect(() => compiler.compile(held(schema))).toThrow(
      expect.objectContaining({
        code: 'LS_FORM_SCHEMA',
        message: expect.stringContaining(` at ${where} of the JSON schema`),
      }),
    );
  });
});

describe('a schema that is too large', () => {
  const compiler = () => compilerOf(toy.tokenizer);
  const many = (count: number) => Array.from({ length: count }, (_, i) => `value ${i}`);

  it('is refused, by its values or its properties', () => {
    expect(() => compiler().compile(held({ enum: many(1001) }))).toThrow(
      expect.objectContaining({ code: 'LS_FORM_SIZE' }),
    );
    const properties = Object.fromEntries(many(1001).map((name) => [name, {}]));
    expect(() => compiler().compile(held({ type: 'object', properties }))).toThrow(
      /1000 properties/,
    );
  });

  it('is taken up to that', () => {
    const properties = Object.fromEntries(many(900).map((name) => [name, { type: 'string' }]));
    const matcher = compiler().compile(held({ type: 'object', properties }))();
    for (const byte of Buffer.from('{"value 899": "a"')) matcher.accept(byte);
    const logits = new Float32Array(toy.tokenizer.vocabulary.size);
    matcher.mask(logits);
    expect(logits['}'.charCodeAt(0)]).toBe(0);
    expect(logits[','.charCodeAt(0)]).toBe(Number.NEGATIVE_INFINITY);
  });
});
