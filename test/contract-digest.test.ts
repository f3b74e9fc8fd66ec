// The digest is the same number in Node and in Python, and the schema is the same schema.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { findPython, pythonEnvironment } from '../src/bridge/index.ts';
import { canonicalJson, digestOf, sha256 } from '../src/contract/digest.ts';
import { contractJsonSchema, contractV1JsonSchema } from '../src/contract/json-schema.ts';
import { contractSchema } from '../src/contract/schema.ts';
import { neverTrained } from '../src/contract/trained.ts';
import { pythonRoot } from '../src/paths.ts';

async function python(code: string, input: string): Promise<string> {
  const { executable } = await findPython();
  const env = pythonEnvironment(process.env);
  return execFileSync(executable, ['-c', code], {
    input,
    env,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
}

const document = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.maxSafeInteger(),
    fc.boolean(),
    fc.constant(null),
    fc.string({ unit: 'binary' }).filter((text) => !/\p{Surrogate}/u.test(text)),
    fc.array(tie('value'), { maxLength: 5 }),
    fc.dictionary(fc.string({ unit: 'grapheme', maxLength: 6 }), tie('value'), { maxKeys: 5 }),
  ),
})).value;

describe('digest', () => {
  test('random documents: the same canonical bytes in both runtimes', async () => {
    const values = fc.sample(document, { numRuns: 400, seed: 3 });
    values.push('\u2028\u0000\u001f\\"/é😀', { '\ud83d\ude00': 1, '\uffff': 2, b: 3, B: 4, '': 5 });
    const digests = await python(
      `import hashlib, json, sys
from lockstep.contract.reader import canonical_json
for value in json.load(sys.stdin):
    print(hashlib.sha256(canonical_json(value)).hexdigest())`,
      JSON.stringify(values),
    );
    expect(digests.trim().split('\n')).toEqual(values.map((value) => sha256(canonicalJson(value))));
  });

  test('leaves out digest, training and trained, and nothing else', async () => {
    const base = { lockstep: 1, carry: { size: 3, sinks: 4 }, golden: [] };
    const extra = { ...base, digest: 'x', training: { truncation: 3 }, trained: null };
    type Any = Parameters<typeof digestOf>[0];
    expect(digestOf(extra as unknown as Any)).toBe(digestOf(base as unknown as Any));
    const other = { ...base, carry: { size: 3, sinks: 0 } };
    expect(digestOf(other as unknown as Any)).not.toBe(digestOf(base as unknown as Any));
    const fromPython = await python(
      `import json, sys
from lockstep.contract.reader import digest_of
print(digest_of(json.load(sys.stdin)))`,
      JSON.stringify(extra),
    );
    expect(fromPython.trim()).toBe(digestOf(base as unknown as Any));
  });

  test.each([
    ['NaN', Number.NaN],
    ['infinity', [Number.POSITIVE_INFINITY]],
    ['half a pair', { a: '\ud800' }],
  ])('%s has no canonical form', (_, value) => {
    expect(() => canonicalJson(value)).toThrow(
      expect.objectContaining({ code: 'LS_CONTRACT_JSON' }),
    );
  });

  test('the text \\ud800, written out, is not taken for an unpaired surrogate', () => {
    expect(canonicalJson('\\ud800')).toBe('"\\\\ud800"');
  });
});

describe('schema', () => {
  test.each([
    ['contract', contractJsonSchema],
    ['contract-v1', contractV1JsonSchema],
  ])(
    'python/lockstep/contract/%s.schema.json is what the TypeScript schema generates',
    (name, text) => {
      const file = path.join(pythonRoot, 'lockstep', 'contract', `${name}.schema.json`);
      expect(readFileSync(file, 'utf8')).toBe(text());
    },
  );

  test('both runtimes accept and refuse the same documents', async () => {
    const trained = { ...neverTrained };
    const good = {
      lockstep: 2,
      policy: {
        name: 'p',
        file: 'policy.js',
        sha256: '0'.repeat(64),
        params: { a: [1, 'x', { b: true }] },
        runtime: { version: 1, sha256: 'b'.repeat(64) },
      },
      tables: { ids: [1, 2], nested: [{ a: null }] },
      segment: { min: 1, max: 4, align: 1 },
      carry: { size: 2, sinks: 4 },
      retrieval: { size: 2, recipe: 'anchors', layers: [0] },
      heads: { long: [[0], []] },
      pool: { capacity: null },
      tokenizer: { sha256: 'a'.repeat(64), size: 9, bos: null, ends: [2] },
      model: {
        family: 'llama',
        hiddenSize: 8,
        intermediateSize: 8,
        layers: 2,
        queryHeads: 2,
        kvHeads: 1,
        headDim: 4,
        vocabulary: 9,
        rope: { type: 'linear', theta: 10000.5, factor: 2 },
        normEpsilon: 1e-6,
        activation: 'silu',
        attentionBias: 'none',
        mlpBias: false,
        tied: true,
      },
      golden: [{ tokens: [1, 2, 3, 4, 5], boundaries: [4] }],
      training: { truncation: 1 },
      trained,
      digest: 'f'.repeat(64),
    };
    const change = (at: string, value: unknown): object => {
      const copy = structuredClone(good) as unknown as Record<string, never>;
      const keys = at.split('.');
      const last = keys.pop() as string;
      const parent = keys.reduce<Record<string, unknown>>((node, key) => node[key] as never, copy);
      if (value === undefined) delete parent[last];
      else parent[last] = value;
      return copy;
    };
    const documents = [
      good,
      change('trained', { ...trained, steps: 1, tokens: 2 }),
      change('tokenizer.bos', 0),
      change('model.rope', { type: 'default', theta: 5e-324 }),
      change('tokenizer.ends', []),
      change('lockstep', 1),
      change('lockstep', 3),
      change('tokenizer.ends', [-1]),
      change('tokenizer.ends', undefined),
      change('model', undefined),
      change('model.tied', 1),
      change('model.headDim', 4.5),
      change('model.normEpsilon', 0),
      change('model.family', 'gpt2'),
      change('model.attentionBias', 'all'),
      change('model.rope', { type: 'default', theta: 1, factor: 2 }),
      change('model.rope', { type: 'linear', theta: 1 }),
      change('model.rope.theta', -1),
      change('model.rope.type', 'dynamic'),
      change('trained', null),
      change('extra', 1),
      change('policy.extra', 1),
      change('policy.file', '../policy.js'),
      change('policy.sha256', 'F'.repeat(64)),
      change('policy.runtime', undefined),
      change('policy.runtime.version', 0),
      change('policy.params', [1]),
      change('policy.params.a', 1.5),
      change('tables', undefined),
      change('tables.ids', [0.5]),
      change('segment.max', 0),
      change('segment.max', 2 ** 31),
      change('carry.sinks', -1),
      change('carry.size', '2'),
      change('retrieval.recipe', 'best'),
      change('retrieval.layers', [true]),
      change('heads.long', [0]),
      change('pool.capacity', 5),
      change('golden', []),
      change('trained', {}),
      change('trained', { steps: 1, tokens: 2 }),
      change('trained', { ...trained, weights: { ...trained.weights, files: { a: 'A' } } }),
      change('digest', 'short'),
    ];
    const judged = await python(
      `import json, sys
from lockstep.contract.schema import first_problem
print(json.dumps([first_problem("contract", document) is None for document in json.load(sys.stdin)]))`,
      JSON.stringify(documents),
    );
    const here = documents.map((value) => contractSchema.safeParse(value).success);
    expect(JSON.parse(judged)).toEqual(here);
    expect(here.map((ok, at) => (ok ? at : -1)).filter((at) => at >= 0)).toEqual([0, 1, 2, 3, 4]);
  });
});
