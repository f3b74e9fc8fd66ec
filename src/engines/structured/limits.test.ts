// Schemas that are made to be slow or to slip through, and masks against every token of the vocabulary.
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeToy, type Toy } from '../../../test/server-toy.ts';
import { packageRoot } from '../../paths.ts';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/tokenizer.ts';
import { CompiledGrammar, type State } from './grammar.ts';
import { GrammarCompiler } from './grammar-compiler.ts';
import { SchemaReader } from './schema.ts';

let toy: Toy;
let words: Tokenizer;
beforeAll(async () => {
  toy = await makeToy();
  words = await loadTokenizer(
    path.join(packageRoot, '.lockstep', 'models', 'smollm2-135m-instruct'),
  );
});
afterAll(() => rm(toy.dir, { recursive: true, force: true }));

const NEGATIVE = Number.NEGATIVE_INFINITY;

function begun(tokenizer: Tokenizer, schema: unknown, ends = tokenizer.ends) {
  const format = { type: 'json_schema', json_schema: { schema } };
  return new GrammarCompiler(tokenizer, ends).compile(format)();
}

/** `count` definitions, each of the next one, in a way of `made`. */
function definitions(count: number, made: (next: object) => object) {
  const $defs: Record<string, object> = { [`d${count}`]: { type: 'null' } };
  for (let i = 0; i < count; i++) $defs[`d${i}`] = made({ $ref: `#/$defs/d${i + 1}` });
  return { $ref: '#/$defs/d0', $defs };
}

describe('references', () => {
  it('cost what they are, not what they multiply to', () => {
    // 2^100 ways to the same null.
    const schema = definitions(100, (next) => ({ anyOf: [next, next] }));
    const logits = new Float32Array(toy.tokenizer.vocabulary.size);
    begun(toy.tokenizer, schema).mask(logits);
    expect(logits['n'.charCodeAt(0)]).toBe(0);
  });

  it.each([
    ['in each other', definitions(5000, (next) => next), /nesting of at most 250 schemas/],
    [
      'to many places',
      {
        type: 'array',
        prefixItems: Array.from({ length: 1001 }, (_, i) => ({ $ref: `#/$defs/d${i}` })),
        $defs: Object.fromEntries(
          Array.from({ length: 1001 }, (_, i) => [`d${i}`, { type: 'null' }]),
        ),
      },
      /at most 1000 places/,
    ],
    ['by a name', { type: 'array', items: { $ref: '#a' } }, /got #a at \/items\/\$ref /],
    ['not decodable', { anyOf: [{ $ref: '#/$defs/%' }], $defs: { '%': {} } }, /\/anyOf\/0\/\$ref /],
    [
      'of a value without end',
      {
        type: 'object',
        properties: { it: { $ref: '#/$defs/a' } },
        $defs: { a: { type: 'array', minItems: 1, items: { $ref: '#/$defs/a' } } },
      },
      /a schema that a finite value fits at \/\$defs\/a /,
    ],
  ])('%s are refused', (_, schema, words) => {
    expect(() => begun(toy.tokenizer, schema)).toThrow(
      expect.objectContaining({ code: 'LS_FORM_SCHEMA', message: expect.stringMatching(words) }),
    );
  });

  it('may be percent-encoded and name keys with slashes', () => {
    const schema = { $ref: '#/%24defs/a~1b', $defs: { 'a/b': { type: 'null' } } };
    expect(() => begun(toy.tokenizer, schema)).not.toThrow();
  });
});

describe('many strings at one place', () => {
  const strings = (count: number) => ({
    anyOf: Array.from({ length: count }, (_, i) => ({ type: 'string', minLength: 2 * i })),
  });

  it('are taken while they are few, and refused before a mask takes seconds', () => {
    const matcher = begun(words, strings(12));
    matcher.mask(new Float32Array(words.vocabulary.size));
    const quote = Array.from({ length: words.vocabulary.size }, (_, id) => id).find(
      (id) => words.vocabulary.text(id) === '"',
    );
    expect(() => matcher.accept(quote as number)).not.toThrow();
    expect(() => {
      const many = begun(words, strings(100));
      many.accept(quote as number);
    }).toThrow(expect.objectContaining({ code: 'LS_FORM_SIZE' }));
  });
});

describe('what only looks right', () => {
  it.each([
    ['a type of no JSON', { type: 'toString' }],
    [
      'equal constants in another order',
      { oneOf: [{ const: { a: 1, b: 2 } }, { const: { b: 2, a: 1 } }] },
    ],
  ])('%s is refused', (_, schema) => {
    expect(() => begun(toy.tokenizer, schema)).toThrow(
      expect.objectContaining({ code: 'LS_FORM_SCHEMA' }),
    );
  });

  it('a token that ends texts is no text, although its bytes would fit', () => {
    const x = 'x'.charCodeAt(0);
    const matcher = begun(toy.tokenizer, { type: 'string' }, [x]);
    matcher.accept('"'.charCodeAt(0));
    const inside = new Float32Array(toy.tokenizer.vocabulary.size);
    matcher.mask(inside);
    expect([inside[x], inside[x + 1]]).toEqual([NEGATIVE, 0]);
    matcher.accept('"'.charCodeAt(0));
    const behind = new Float32Array(toy.tokenizer.vocabulary.size);
    matcher.mask(behind);
    expect(behind.filter((logit) => logit === 0)).toHaveLength(1);
    expect(behind[x]).toBe(0);
  });
});

describe('masks', () => {
  const letters = (count: number) => 'ab🌊 '.repeat(count).slice(0, count);
  it.each([
    [
      { type: 'string', minLength: 100, maxLength: 400 },
      ['"', `"${letters(50)}`, `"${letters(99)}`],
    ],
    [
      { type: 'string', maxLength: 300 },
      [`"${letters(199)}`, `"${letters(270)}`, `"${letters(299)}`],
    ],
    [
      { type: 'array', items: { enum: [1, 2] }, minItems: 3, maxItems: 200 },
      ['[1', '[1,2,1', `[${'1,'.repeat(199)}2`],
    ],
    [
      {
        type: 'object',
        properties: { a: { type: 'string', maxLength: 2 } },
        additionalProperties: false,
      },
      ['{', '{"a": "', '{"a": "bc'],
    ],
  ])(
    '%j let exactly the tokens through whose bytes may come',
    { timeout: 60_000 },
    async (schema, texts) => {
      const grammar = new CompiledGrammar(new SchemaReader(schema).readWhole());
      const behind = (state: State | null, bytes: Uint8Array) => {
        let here = state;
        for (const byte of bytes) here = here && grammar.step(here, byte);
        return here;
      };
      for (const text of texts) {
        const ids = Array.from(await words.encode(text));
        const matcher = begun(words, schema);
        for (const id of ids) matcher.accept(id);
        const logits = new Float32Array(words.vocabulary.size + 5);
        matcher.mask(logits);
        const state = behind(grammar.start, Buffer.from(text));
        const wrong = [...logits.keys()].filter((id) => {
          const bytes = words.bytes(id);
          const right = words.ends.includes(id)
            ? state?.ends === true
            : bytes.length > 0 && !words.vocabulary.special(id) && behind(state, bytes) !== null;
          return (logits[id] === 0) !== (id < words.vocabulary.size && right);
        });
        expect([text, wrong]).toEqual([text, []]);
      }
    },
  );
});
