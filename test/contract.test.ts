// Contracts as they are made: what they hold, and settings that do not fit the model or the policy.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { type ContractSettings, makeContract } from '../src/checkpoint/index.ts';
import { contractSchema } from '../src/contract/schema.ts';
import { fixed } from '../src/policies/index.ts';
import { contractFolder, settings } from './contract-fixture.ts';
import { closed, closesOver, fractionTables, throwsInPrepare } from './policies/faulty.ts';
import { tinyCheckpoint } from './tiny-checkpoint.ts';

const { root, model } = contractFolder('contract');

describe('makeContract', () => {
  const make = (change: Partial<ContractSettings>) =>
    makeContract({ config: { ...settings, ...change }, modelDir: model });

  test.each<[Partial<ContractSettings>, string, RegExp]>([
    [{ heads: { long: [3] } }, 'heads.long', /KV heads below 3.*got 3/],
    [{ heads: { long: [[0], [0], [5], [0]] } }, 'heads.long[2]', /KV heads below 3.*got 5/],
    [{ heads: { long: [[0], [0]] } }, 'heads.long', /expected 4 lists.*got 2/],
    [
      { retrieval: { size: 8, recipe: 'topk', layers: [4] } },
      'retrieval.layers',
      /layers below 4.*got 4/,
    ],
    [
      { heads: { long: [[0], [], [0], [0]] } },
      'retrieval.layers',
      /layers that have long heads.*got 1/,
    ],
    [
      {
        carry: { size: 8, sinks: 4, heads: 'all' },
        retrieval: { size: 0, recipe: 'anchors', layers: [] },
        heads: { long: [] },
      },
      'carry.heads',
      /expected "local", as no head is long.*got "all"/,
    ],
    [{ heads: { long: [0, 1, 2] } }, 'carry.size', /expected 0, as every head is long.*got 8/],
  ])('%j does not fit the model', async (change, field, message) => {
    await expect(make(change)).rejects.toMatchObject({
      code: 'LS_CONFIG_INVALID',
      field,
      message: expect.stringMatching(message),
    });
  });

  test('sizes of blocks, and a carry of all heads, are written only into contracts that use them', async () => {
    const sizes = { block: 8, distance: 32, window: 16 };
    const retrieval = { size: 16, recipe: 'blocks' as const, layers: [1, 2], ...sizes };
    const carry = { size: 8, sinks: 4, heads: 'all' } as const;
    // With it, long heads use the carry: every head may be long.
    const { contract } = await make({ carry, retrieval, heads: { long: [0, 1, 2] } });
    expect(contractSchema.parse(contract)).toMatchObject({ carry, retrieval });
    const plain = (await make({})).contract;
    expect(Object.keys(plain.carry)).toEqual(['size', 'sinks']);
    expect(Object.keys(plain.retrieval)).toEqual(['size', 'recipe', 'layers']);
    for (const part of [{ window: 65 }, { block: 0 }, { block: undefined }, { recipe: 'topk' }]) {
      const other = { ...contract, retrieval: { ...retrieval, ...part } };
      expect(contractSchema.safeParse(other).success).toBe(false);
    }
  });

  test('all problems are listed at once', async () => {
    const change = { heads: { long: [7] }, retrieval: { ...settings.retrieval, layers: [8, 9] } };
    await expect(make(change)).rejects.toMatchObject({
      message: expect.stringMatching(/^the config has 3 problems.*got 7.*got 8.*got 9/s),
    });
    const file = path.join(root, 'mine.config.ts');
    await expect(make({ ...change, file })).rejects.toMatchObject({
      message: expect.stringMatching(/mine\.config\.ts has 3 problems/),
    });
  });

  test('bos is written into the contract, and needs a tokenizer that has it', async () => {
    const { contract } = await make({ bos: true });
    expect(contract.tokenizer.bos).toBe(1);
    const dir = tinyCheckpoint(path.join(root, 'no-bos'), { bos_token_id: null });
    writeFileSync(path.join(dir, 'tokenizer_config.json'), '{}');
    const run = makeContract({ config: { ...settings, bos: true }, modelDir: dir });
    await expect(run).rejects.toMatchObject({ code: 'LS_CONFIG_INVALID', field: 'bos' });
  });

  test.each([
    [throwsInPrepare(), 'LS_POLICY_PREPARE', /throws-in-prepare.*no such word/],
    [fractionTables(), 'LS_POLICY_PREPARE', /fraction-tables.*integers/],
    [closesOver(5), 'LS_POLICY_CLOSURE', /closes-over.*token \d+ \(id \d+\)/],
  ])('policy %#: what goes wrong is named', async (policy, code, message) => {
    const run = make({ policy });
    await expect(run).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test('a policy without parameters of its own is found by name', async () => {
    const { contract } = await make({ policy: closed });
    expect(contract.policy).toMatchObject({ name: 'closes-over', params: {} });
  });

  test('a fixed policy of S tokens plans its golden sequences every S tokens', async () => {
    const { contract } = await make({ policy: fixed({ size: 16 }) });
    for (const { tokens, boundaries } of contract.golden) {
      expect(boundaries).toEqual(
        Array.from({ length: Math.floor(tokens.length / 16) }, (_, i) => 16 * (i + 1)),
      );
    }
  });
});
