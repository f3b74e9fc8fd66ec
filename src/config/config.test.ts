import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { sentences } from '../policies/index.ts';
import { originOf } from '../policies/policy.ts';
import { loadConfig } from './load.ts';
import { parseConfig } from './schema.ts';

// A user's project: far from this package, without node_modules.
const project = realpathSync(mkdtempSync(path.join(tmpdir(), 'lockstep-config-')));
afterAll(() => rmSync(project, { recursive: true, force: true }));

function write(name: string, text: string): string {
  const file = path.join(project, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}

const rest = `
  segment: { min: 4, max: 64 },
  carry: { size: 16 },
  retrieval: { size: 8, layers: [2, 1] },
  heads: { long: [1, 0] },
`;

describe('loadConfig', () => {
  test('loads a project elsewhere: defaults, absolute paths, the policy with its module', async () => {
    const policy = write(
      'policies/mine.ts',
      `import { definePolicy } from 'lockstep/policies';
       export const here: string = import.meta.url;
       export const mine = definePolicy({ name: 'mine', params: { n: 3 }, push: () => false });`,
    );
    const file = write(
      'lockstep.config.ts',
      `import { defineConfig } from 'lockstep';
       import { here, mine } from './policies/mine.ts';
       if (!here.endsWith('mine.ts')) throw new Error(here);
       export default defineConfig({
         model: './model', out: '../out', policy: mine({ n: 4 }), ${rest}
         data: { train: ['texts/*.txt'], validation: ['held.txt'] },
         training: { steps: 3 },
       });`,
    );
    const config = await loadConfig(file);
    expect(config.file).toBe(file);
    expect(config.model).toBe(path.join(project, 'model'));
    expect(config.out).toBe(path.join(path.dirname(project), 'out'));
    expect(config.segment).toEqual({ min: 4, max: 64, align: 1 });
    expect(config.carry).toEqual({ size: 16, sinks: 4 });
    expect(config.retrieval).toEqual({ size: 8, recipe: 'anchors', layers: [1, 2] });
    expect(config.heads).toEqual({ long: [0, 1] });
    expect(config.bos).toBeUndefined();
    expect(config.policy.params).toEqual({ n: 4 });
    expect(config.training).toMatchObject({
      truncation: 1,
      steps: 3,
      data: ['texts/*.txt'],
      heldOut: ['held.txt'],
      texts: { field: null, skipBroken: false, cache: null, workers: 1, heldOutDocuments: 64 },
    });
    expect(originOf(config.policy)?.module).toBe(pathToFileURL(policy).href);
  });

  test('built-in policies keep the module of this package', async () => {
    const file = write(
      'builtin.config.ts',
      `import { anyOf, defineConfig, fixed, sentences } from 'lockstep';
       export default defineConfig({ model: 'm', out: 'o', policy: anyOf(sentences(), fixed({ size: 9 })), ${rest} });`,
    );
    const { policy } = await loadConfig(file);
    const [first, second] = originOf(policy)?.policies ?? [];
    expect(originOf(first)?.module).toBe(originOf(sentences())?.module);
    expect(second?.params).toEqual({ size: 9 });
  });

  test.each<[Record<string, unknown>, Record<string, unknown>, string, RegExp]>([
    [{ format: 'preference' }, {}, 'training.dpo', /expected \{\} or \{ beta: 0\.1 \}/],
    [{ format: 'messages' }, { dpo: {} }, 'data.format', /expected 'preference' or nothing/],
    [{ field: 'x' }, { dpo: {} }, 'data.field', /expected none/],
    [{ loss: 'all' }, { dpo: {} }, 'data.loss', /compares answers/],
    [{}, { dpo: { beta: 0 } }, 'training.dpo.beta', /above 0/],
  ])('%j with %j does not fit', (data, training, field, message) => {
    const value = {
      model: 'm',
      out: 'o',
      policy: sentences(),
      segment: { max: 64 },
      carry: { size: 16 },
      data: { train: ['a.jsonl'], ...data },
      training: { steps: 1, ...training },
    };
    expect(() => parseConfig(value, 'it')).toThrow(
      expect.objectContaining({
        code: 'LS_CONFIG_INVALID',
        field,
        message: expect.stringMatching(message),
      }),
    );
  });

  test('preferences have their defaults', () => {
    const { training } = parseConfig(
      {
        model: 'm',
        out: 'o',
        policy: sentences(),
        segment: { max: 64 },
        carry: { size: 16 },
        data: { train: ['a.jsonl'], format: 'preference' },
        training: { steps: 1, dpo: {} },
      },
      'it',
    );
    expect(training?.dpo).toEqual({ beta: 0.1, lengthNormalized: false });
  });

  test.each([
    [
      'syntax',
      `export default {\n  model: 'm',,\n};`,
      { code: 'LS_CONFIG_SYNTAX', message: expect.stringMatching(/:2:\d+: /) },
    ],
    [
      'an import that does not exist',
      `import { nothing } from './nothing.ts';\nexport default nothing;`,
      {
        code: 'LS_CONFIG_IMPORT',
        message: expect.stringMatching(/:1:\d+: .*nothing\.ts/),
        fix: expect.stringContaining('Correct its path'),
      },
    ],
    [
      'an import of a file that is no code',
      `import { nothing } from './texts.parquet';\nexport default nothing;`,
      {
        code: 'LS_CONFIG_IMPORT',
        message: expect.stringMatching(/got texts\.parquet$/),
        fix: expect.stringContaining('readFileSync'),
      },
    ],
    [
      'an await outside of functions',
      `const it = await Promise.resolve({});\nexport default it;`,
      {
        code: 'LS_CONFIG_AWAIT',
        message: expect.stringMatching(/:1:\d+: expected no await/),
        fix: expect.stringContaining('readFileSync'),
      },
    ],
    [
      'a promise',
      `export default new Promise(() => {});`,
      { code: 'LS_CONFIG_INVALID', message: expect.stringMatching(/got a promise$/) },
    ],
    [
      'an exit',
      `process.exit(0);\nexport default {};`,
      { code: 'LS_CONFIG_FAILED', message: expect.stringMatching(/:1:\d+: .*process\.exit\(0\)/) },
    ],
    ...['null', 'undefined', '7n', '{ a: 1 }', 'Object.create(null)'].map(
      (thrown): [string, string, object] => [
        `throw ${thrown}`,
        `throw ${thrown};\nexport default {};`,
        { code: 'LS_CONFIG_FAILED', message: expect.stringMatching(/the config threw \S/) },
      ],
    ),
    [
      'a name that lockstep does not export',
      `import { definePolice } from 'lockstep';\nexport default definePolice;`,
      { code: 'LS_CONFIG_SYNTAX', message: expect.stringContaining('definePolice') },
    ],
    [
      'an exception',
      `const size: number = 3;\n\nif (size === 3) throw new RangeError('three');\nexport default {};`,
      {
        code: 'LS_CONFIG_FAILED',
        message: expect.stringMatching(
          /broken\.config\.ts:3:\d+: the config threw RangeError: three$/,
        ),
      },
    ],
    [
      'parameters that the policy refuses',
      `import { fixed } from 'lockstep';\nexport default {\n  policy: fixed({ size: 'x' as never }),\n};`,
      {
        code: 'LS_POLICY_PARAMS',
        message: expect.stringMatching(
          /broken\.config\.ts:3:\d+: fixed\.size: expected an integer/,
        ),
      },
    ],
    [
      'a policy inside the config',
      `import { after, definePolicy } from 'lockstep';
       const mine = definePolicy({ name: 'mine', push: () => true });
       export default { model: 'm', out: 'o', policy: after(mine(), 3), ${rest} };`,
      { code: 'LS_POLICY_MODULE', field: 'policy' },
    ],
    ['no default export', `export const x = 1;`, { code: 'LS_CONFIG_INVALID' }],
  ])('%s is reported with its place', async (_, text, error) => {
    write('texts.parquet', 'PAR1');
    await expect(loadConfig(write('broken.config.ts', text))).rejects.toMatchObject(error);
  });

  test.each([
    ['a folder', 'policies', 'a folder at policies'],
    ['an empty name', '', 'an empty name'],
    ['a file that is no text', 'weights.ts', 'a file that is no text at weights.ts'],
    ['a path through a file', 'weights.ts/a.ts', 'a path through a file that is no folder'],
  ])('%s is no config', async (_, name, got) => {
    write('policies/mine.ts', '');
    write('weights.ts', '\u0000\u0001');
    const before = process.cwd();
    process.chdir(project);
    try {
      await expect(loadConfig(name)).rejects.toMatchObject({
        code: 'LS_CONFIG_MISSING',
        message: expect.stringContaining(`expected a config file, got ${got}`),
      });
    } finally {
      process.chdir(before);
    }
  });

  test('text beyond the first bytes may begin anywhere in a letter', async () => {
    const file = write('long.config.ts', `// ${'é'.repeat(40_000)}\nexport default 3;`);
    await expect(loadConfig(file)).rejects.toMatchObject({ code: 'LS_CONFIG_INVALID' });
  });

  test('a missing file is named', async () => {
    await expect(loadConfig(path.join(project, 'absent.ts'))).rejects.toMatchObject({
      code: 'LS_CONFIG_MISSING',
    });
  });
});

/** A change of a config: the recipe `blocks`. */
const blocks = (change: object) => ({
  retrieval: { size: 64, layers: [1], recipe: 'blocks', ...change },
});

describe('parseConfig', () => {
  const good = {
    model: 'm',
    out: 'o',
    policy: sentences(),
    segment: { max: 64 },
    carry: { size: 16 },
    retrieval: { size: 8, layers: [1] },
    heads: { long: [0] },
  };

  test('retrieval and long heads may be left out', () => {
    const { retrieval, heads, ...local } = good;
    expect(parseConfig(local, 'test')).toMatchObject({
      retrieval: { size: 0, layers: [], recipe: 'anchors' },
      heads: { long: [] },
      segment: { min: 1, max: 64, align: 1 },
    });
  });

  test('only blocks has sizes of its own, and only a carry of all heads is said', () => {
    const { retrieval, carry } = parseConfig(
      {
        ...good,
        carry: { size: 16, heads: 'all' },
        retrieval: { size: 64, layers: [1], recipe: 'blocks', window: 16 },
      },
      'test',
    );
    expect(carry).toEqual({ size: 16, sinks: 4, heads: 'all' });
    const sizes = { block: 32, distance: 128, window: 16 };
    expect(retrieval).toEqual({ size: 64, layers: [1], recipe: 'blocks', ...sizes });
    const local = parseConfig({ ...good, carry: { size: 16, heads: 'local' } }, 'test');
    expect(Object.keys(local.carry)).toEqual(['size', 'sinks']);
    expect(Object.keys(local.retrieval)).toEqual(['size', 'recipe', 'layers']);
  });

  test.each<[string, object, string]>([
    ['retrieval.size', blocks({ size: 24 }), 'expected at least one block (32 rows), got 24'],
    [
      'retrieval.size',
      blocks({ size: 40, block: 16 }),
      'expected a multiple of the block (16 rows), got 40',
    ],
    ['retrieval.window', blocks({ window: 65 }), 'expected a number of at most 64, got 65'],
    ['retrieval.window', blocks({ window: 0 }), 'expected a number of at least 1, got 0'],
    ['retrieval.block', blocks({ block: 0 }), 'expected a number of at least 1, got 0'],
    ['retrieval.distance', blocks({ distance: -1 }), 'expected a number of at least 0, got -1'],
    ['retrieval.block', blocks({ recipe: 'topk', block: 8 }), 'only the recipe "blocks" has it'],
    [
      'retrieval.distance',
      { retrieval: { size: 8, layers: [1], distance: 128 } },
      'only the recipe "blocks" has it, got 128',
    ],
    ['carry.heads', { carry: { size: 0, heads: 'all' } }, 'as nothing is carried (size 0)'],
    ['carry.heads', { carry: { size: 8, heads: 'long' } }, '"local" or "all", got "long"'],
    ['segment.max', { segment: { max: '64' } }, 'expected a number, got "64"'],
    ['segment.max', { segment: { max: 6.5 } }, 'expected an integer, got 6.5'],
    ['segment.min', { segment: { min: 65, max: 64 } }, 'expected at most max (64), got 65'],
    [
      'segment.max',
      { segment: { max: 65, align: 16 } },
      'expected a multiple of align (16), got 65',
    ],
    [
      'segment.mni',
      { segment: { mni: 3, max: 64 } },
      'expected no such option (did you mean min?), got 3',
    ],
    ['carry', { carry: undefined }, 'expected an object such as { size: 128 }, got nothing'],
    ['carry.sinks', { carry: { size: 3, sinks: -1 } }, 'expected a number of at least 0, got -1'],
    ['retrieval.layers', { retrieval: { size: 8, layers: [] } }, 'as size is 8, got []'],
    ['retrieval.size', { retrieval: { size: 0, layers: [1] } }, 'as layers are given, got 0'],
    ['retrieval.recipe', { retrieval: { size: 0, layers: [], recipe: 'topk' } }, 'got "topk"'],
    [
      'retrieval.recipe',
      { retrieval: { size: 1, layers: [1], recipe: 'best' } },
      '"anchors" or "topk"',
    ],
    ['retrieval.layers', { retrieval: { size: 1, layers: [1, 1] } }, 'expected each number once'],
    ['carry.size', { carry: { size: Number.NaN } }, 'expected a number, got NaN'],
    [
      'training.minutes',
      { data: { train: ['a'] }, training: { minutes: 1e308 } },
      'expected a number of at most 10000000, got 1e+308',
    ],
    ['policy', { policy: sentences }, 'expected a policy such as sentences()'],
    ['data', { training: { steps: 1 } }, 'as training is given, got nothing'],
    ['training.steps', { data: { train: ['a'] }, training: {} }, 'exactly one of'],
    [
      'training.validateEvery',
      { data: { train: ['a'] }, training: { steps: 1, validateEvery: 5 } },
      'as `data` names no `validation` texts, got 5',
    ],
    ['verify.tolerance', { verify: { tolerance: 0 } }, 'expected a number above 0, got 0'],
    ['modle', { modle: 'm' }, 'expected no such option (did you mean model?), got "m"'],
  ])('%s: %j', (field, change, message) => {
    const run = () => parseConfig({ ...good, ...change }, 'lockstep.config.ts');
    expect(run).toThrow(
      expect.objectContaining({
        code: 'LS_CONFIG_INVALID',
        field,
        message: expect.stringContaining(message),
      }),
    );
  });

  test('what JSON does not have is shown as well', () => {
    const circle: object[] = [];
    circle.push(circle);
    for (const size of [7n, circle]) {
      const run = () => parseConfig({ ...good, carry: { size } }, 'f.ts');
      expect(run).toThrow(/^f\.ts: carry\.size: expected a number, got (7n|<ref \*1> \[.*)$/);
    }
  });

  test('one number is one problem', () => {
    const run = () => parseConfig({ ...good, segment: { max: 1e308 } }, 'f.ts');
    expect(run).toThrow('f.ts: segment.max: expected a number of at most 2147483647, got 1e+308');
    const least = () => parseConfig({ ...good, carry: { size: -1e308 } }, 'f.ts');
    expect(least).toThrow('f.ts: carry.size: expected a number of at least 0, got -1e+308');
  });

  test('every problem is listed', () => {
    const run = () => parseConfig({ ...good, model: 3, segment: { max: 0 }, extra: 1 }, 'f.ts');
    expect(run).toThrow(/3 problems.*model.*segment\.max.*extra/s);
  });
});
