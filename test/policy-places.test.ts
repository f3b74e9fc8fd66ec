// A policy that fails is named by file, line and column of what its author wrote, with the lines around.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { attach, makeContract, readContract } from '../src/checkpoint/index.ts';
import { loadConfig } from '../src/config/index.ts';
import { bundlePolicy } from '../src/contract/bundle.ts';
import type { LockstepError } from '../src/errors.ts';
import { PolicyHost, type PolicySource, Segmenter } from '../src/planner/index.ts';
import { temporaryFolder, tinyCheckpoint } from './tiny-checkpoint.ts';

const root = temporaryFolder('places');
afterAll(() => rmSync(root, { recursive: true, force: true }));
beforeAll(() => tinyCheckpoint(path.join(root, 'model')));

/** A config whose policy is `source`, in a folder of its own. */
function configOf(name: string, source: string, policy = 'own()'): string {
  const folder = path.join(root, name);
  mkdirSync(path.join(folder, 'policies'), { recursive: true });
  writeFileSync(path.join(folder, 'policies', 'own.ts'), source);
  const file = path.join(folder, 'lockstep.config.ts');
  writeFileSync(
    file,
    `import { anyOf, defineConfig, fixed, sentences } from 'lockstep';
import { own } from './policies/own.ts';
export default defineConfig({
  model: '../model', out: 'out', policy: ${policy},
  segment: { min: 1, max: 64 }, carry: { size: 8 },
});
void anyOf; void fixed; void sentences;
`,
  );
  return file;
}

async function failure(run: () => unknown): Promise<LockstepError> {
  try {
    await run();
  } catch (error) {
    return error as LockstepError;
  }
  return expect.fail('expected an error');
}

const made = async (file: string) => {
  const config = await loadConfig(file);
  return makeContract({ config, modelDir: config.model });
};

const counter = (body: string): string => `// A comment, a type, and a helper: lines move.
import { definePolicy } from 'lockstep';

interface Seen { count: number; names?: { first: string } }

function deep(seen: Seen): string {
  return seen.names!.first;
}

export const own = definePolicy({
  name: 'own',
  start: (): Seen => ({ count: 0 }),
  push: (state: Seen, token) => {
    state.count += 1;
    ${body}
    return token === 3;
  },
});
void deep;
`;

it.each([
  ['own()', 'in a contract of its own'],
  ['anyOf(sentences(), own())', 'in another policy'],
])('%s: what throws is found %s', async (policy) => {
  const file = configOf('throws', counter('if (state.count > 5) deep(state);'), policy);
  const error = await failure(() => made(file));
  expect(error.code).toBe('LS_POLICY_THREW');
  expect(error.message).toMatch(/at token 5 \(id \d+\): threw TypeError/);
  expect(error.place).toMatchObject({ line: 7, column: 10 });
  expect(path.resolve(error.place?.file ?? '')).toBe(path.join(root, 'throws/policies/own.ts'));
  expect(error.place?.frame).toBe(
    [
      '  5 |',
      '  6 | function deep(seen: Seen): string {',
      '> 7 |   return seen.names!.first;',
      '    |          ^',
      '  8 | }',
      '  9 |',
    ].join('\n'),
  );
  expect(error.toJSON()).toMatchObject({ place: { line: 7 } });
});

it.each([
  [
    'reads what it may not',
    'const now = Object; Reflect.get(now, "setPrototypeOf")(state, null);',
    'LS_POLICY_FORBIDDEN',
    15,
  ],
  [
    'calls itself without end',
    'const f = (n: number): number => f(n + 1) + 1; f(0);',
    'LS_POLICY_LIMIT',
    15,
  ],
  ['answers with no boolean', 'if (state.count > 2) return 1 as never;', 'LS_POLICY_RESULT', 13],
  [
    'keeps what JSON cannot hold',
    'if (state.count > 2) (state as any).kept = 1 / 0;',
    'LS_POLICY_STATE',
    13,
  ],
])('a policy that %s', async (_, body, code, line) => {
  const error = await failure(async () => made(configOf('faults', counter(body))));
  expect(error).toMatchObject({ code, place: { line } });
});

it('what throws before any token: start, and the module itself', async () => {
  const start = counter('').replace('({ count: 0 })', '({ count: (undefined as never)[0] })');
  expect(await failure(() => made(configOf('start', start)))).toMatchObject({
    code: 'LS_POLICY_THREW',
    place: { line: 12 },
  });
});

it('a long sequence, in pieces, forked and resumed: the tokens before are run again', async () => {
  const file = configOf('late', counter('if (state.count > 40_000) deep(state);'));
  const source = await made(file);
  const host = new PolicyHost(source);
  const segmenter = new Segmenter(host);
  segmenter.pushMany(new Int32Array(20_000).fill(2));
  const fork = segmenter.fork();
  for (let i = 0; i < 100; i++) fork.push(2);
  fork.pushMany(new Array(19_800).fill(2));
  const other = new Segmenter(host);
  const batch = () => Segmenter.pushBatch([other, fork], [[1, 2], new Array(500).fill(2)]);
  expect(await failure(batch)).toMatchObject({
    message: expect.stringContaining('at token 40000 (id 2)'),
    place: { line: 7, column: 10 },
  });
  expect(segmenter.push(3)).toBe(true);
  host.close();
});

it('of a stored checkpoint: the place in its policy.js', async () => {
  const config = await loadConfig(
    configOf('stored', counter('if (token === 5 && state.count > 400) deep(state);')),
  );
  await attach({ config, modelDir: config.model, out: path.join(root, 'checkpoint') });
  const { contract, policySource } = await readContract(path.join(root, 'checkpoint'));
  // Another process does not have the author's files: a text that this one has not bundled.
  const source: PolicySource = { contract, policySource: `${policySource}\n` };
  const error = await failure(() => new Segmenter(source).pushMany(new Array(500).fill(5)));
  expect(error.place).toMatchObject({ file: 'policy.js' });
  const line = policySource.split('\n')[(error.place?.line ?? 0) - 1];
  expect(line).toContain('seen.names.first');
  expect(error.place?.frame).toContain('^');
});

it('bytes of policy.js do not depend on folders, nor on the place that is remembered', async () => {
  const one = await loadConfig(configOf('one', counter('')));
  const two = await loadConfig(configOf('two', counter('')));
  expect((await bundlePolicy(one.policy)).sha256).toBe((await bundlePolicy(two.policy)).sha256);
});

it('what is refused before it runs is shown as well', async () => {
  const source = counter('seen.push(1);').replace(
    'function deep',
    'const seen: number[] = [];\nfunction deep',
  );
  const error = await failure(() => made(configOf('refused', source)));
  expect(error).toMatchObject({ code: 'LS_POLICY_MEMORY', place: { line: 16 } });
  expect(error.place?.frame).toContain('> 16 |     seen.push(1);');
});

it('parameters, a definition and prepare are found in the file that is at fault, never in Lockstep’s', async () => {
  const bad = counter('').replace("name: 'own',", "name: 'own', params: { rate: 0.5 },");
  expect(await failure(() => made(configOf('definition', bad)))).toMatchObject({
    code: 'LS_POLICY_DEFINITION',
    message: expect.stringMatching(/own\.ts:10:20: .*got 0\.5 at params\.rate$/),
    place: { line: 10 },
  });
  const given = (policy: string) => failure(() => made(configOf('given', counter(''), policy)));
  for (const [policy, example] of [
    ['fixed(512 as never)', 'such as fixed({ size: 512 }), got 512'],
    ["fixed({ size: 'a' as never })", 'fixed.size: expected an integer, got "a"'],
  ] as const) {
    const error = await given(policy);
    expect(error.code).toBe('LS_POLICY_PARAMS');
    expect(error.message).toMatch(/given\/lockstep\.config\.ts:4:/);
    expect(error.message).toContain(example);
    expect(error.place?.frame).toContain('> 4 |');
  }
  expect((await given('512 as never')).message).toContain('sentences() or fixed({ size: 512 })');
  const prepare = counter('').replace(
    "name: 'own',",
    "name: 'own', prepare: (v) => ({ a: (v as any).none.all }),",
  );
  expect(await failure(() => made(configOf('prepare', prepare)))).toMatchObject({
    code: 'LS_POLICY_PREPARE',
    place: { line: 11 },
  });
});
