// Contracts that were stored: what a Lockstep of later must still read, digest and plan alike.
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  adoptContract,
  attach,
  type ContractSettings,
  readContract,
} from '../src/checkpoint/index.ts';
import { type Contract, digestOf, sha256 } from '../src/contract/index.ts';
import { packageRoot } from '../src/paths.ts';
import { currentRuntime, interleavedPlans, plan } from '../src/planner/index.ts';
import { after, anyOf, definePolicy, type Policy, sentences } from '../src/policies/index.ts';
import { repeats } from './policies/repeats.ts';
import { temporaryFolder, tinyCheckpoint } from './tiny-checkpoint.ts';

const stored = path.join(packageRoot, 'test', 'contracts');

/** Literals: they change where a refactoring would refuse every checkpoint. Never edit one to pass. */
const digests: Record<string, string> = {
  'v2-sentences': 'ee7cc6d2158e173c5fb84786c70549abdafed9c6708274d4690a956d48720eb6',
  'v2-repeats': 'd3b4b4e1f735e17d85fd68bc9c8f2d40c360b3c9fb7d1f77eeb744349bd985aa',
};
const runtimes: Record<number, string> = {
  1: '30b88adbdcac1bba226aa777bb731f34e7261946a614f3cc7b5e9901f5d4553f',
};

describe.each(Object.entries(digests))('%s', (name, digest) => {
  const contract = JSON.parse(
    readFileSync(path.join(stored, name, 'lockstep.json'), 'utf8'),
  ) as Contract;
  const policySource = readFileSync(path.join(stored, name, 'policy.js'), 'utf8');

  test('has the digest it was stored with', () => {
    expect(contract.digest).toBe(digest);
    expect(digestOf(contract)).toBe(digest);
    expect(sha256(policySource)).toBe(contract.policy.sha256);
  });

  test('cuts its golden sequences as it did', () => {
    const boundaries = contract.golden.map((golden) => golden.boundaries);
    expect(boundaries.flat().length).toBeGreaterThan(20);
    const sequences = contract.golden.map(({ tokens }) => tokens);
    expect(sequences.map((tokens) => plan({ contract, policySource }, tokens))).toEqual(boundaries);
    expect(interleavedPlans({ contract, policySource }, sequences)).toEqual(boundaries);
  });
});

test('the runtimes have the bytes that contracts name', () => {
  for (const [version, expected] of Object.entries(runtimes)) {
    const file = `policy-runtime.v${version}.js`;
    expect(sha256(readFileSync(path.join(packageRoot, 'src/planner/runtime', file)))).toBe(
      expected,
    );
  }
  expect(runtimes[currentRuntime.version]).toBe(currentRuntime.sha256);
});

describe('a training that is resumed by another Lockstep', () => {
  const root = temporaryFolder('stored');
  const model = path.join(root, 'model');
  beforeAll(() => tinyCheckpoint(model));
  afterAll(() => rmSync(root, { recursive: true, force: true }));

  const settings = (policy: Policy): ContractSettings => ({
    policy,
    segment: { min: 4, max: 32, align: 2 },
    carry: { size: 8, sinks: 4 },
    retrieval: { size: 8, recipe: 'anchors', layers: [1, 2] },
    heads: { long: [0] },
    bos: false,
  });

  /** A checkpoint whose policy.js has other bytes, as another Lockstep would have written it. */
  async function earlier(name: string, policy: Policy): Promise<{ dir: string; digest: string }> {
    const dir = path.join(root, name);
    await attach({ config: settings(policy), modelDir: model, out: dir });
    const file = path.join(dir, 'policy.js');
    const source = `${readFileSync(file, 'utf8')}// written by another version\n`;
    const contract = JSON.parse(readFileSync(path.join(dir, 'lockstep.json'), 'utf8')) as Contract;
    const changed = { ...contract, policy: { ...contract.policy, sha256: sha256(source) } };
    const digest = digestOf(changed);
    writeFileSync(file, source);
    writeFileSync(path.join(dir, 'lockstep.json'), JSON.stringify({ ...changed, digest }));
    await readContract(dir);
    return { dir, digest };
  }

  async function staged(name: string, policy: Policy, change: Partial<ContractSettings> = {}) {
    const out = path.join(root, name);
    const config = { ...settings(policy), ...change };
    return { out, made: await attach({ config, modelDir: model, out }) };
  }

  test("continues under its own contract if the policy is Lockstep's", async () => {
    const policy = anyOf(after(sentences(), 6), sentences());
    const old = await earlier('own', policy);
    const { out, made } = await staged('own-again', policy);
    expect(made.contract.digest).not.toBe(old.digest);
    expect(await adoptContract(out, made, old.dir)).toBe(true);
    expect((await readContract(out)).contract.digest).toBe(old.digest);
  });

  test('counts as another training if a setting differs', async () => {
    const old = await earlier('setting', sentences());
    const { out, made } = await staged('setting-again', sentences(), {
      segment: { min: 4, max: 64, align: 2 },
    });
    expect(await adoptContract(out, made, old.dir)).toBe(false);
    expect((await readContract(out)).contract.digest).toBe(made.contract.digest);
  });

  test("counts as another training if a user's policy has other bytes", async () => {
    const file = path.join(root, 'repeats.ts');
    cpSync(path.join(packageRoot, 'test/policies/repeats.ts'), file);
    const own = repeats();
    const policy = definePolicy({
      name: 'repeats',
      module: pathToFileURL(path.join(packageRoot, 'test/policies/repeats.ts')).href,
      params: { memory: 4, ending: 'e' },
      prepare: (vocabulary) => own.prepare(vocabulary) as never,
      start: () => own.start() as object,
      push: (state, token, { tables }) => own.push(state, token, tables),
    })();
    const old = await earlier('users', policy);
    const { out, made } = await staged('users-again', policy);
    expect(await adoptContract(out, made, old.dir)).toBe(false);
  });
});
