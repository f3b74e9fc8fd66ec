// Contracts as they are made, put on checkpoints, read again, and refused after a change by hand.

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  attach,
  type ContractSettings,
  makeContract,
  readContract,
} from '../src/checkpoint/index.ts';
import { type Contract, digestOf, sha256 } from '../src/contract/index.ts';
import { contractSchema } from '../src/contract/schema.ts';
import { fixed, paragraphs } from '../src/policies/index.ts';
import { closed, closesOver, fractionTables, throwsInPrepare } from './policies/faulty.ts';
import { temporaryFolder, tinyCheckpoint, tinyVocabulary } from './tiny-checkpoint.ts';

const root = temporaryFolder('contract');
const model = path.join(root, 'model');
let made = 0;
beforeAll(() => {
  tinyCheckpoint(model);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const settings: ContractSettings = {
  policy: paragraphs(),
  segment: { min: 4, max: 32, align: 2 },
  carry: { size: 8, sinks: 4 },
  retrieval: { size: 8, recipe: 'anchors', layers: [1, 2] },
  heads: { long: [0] },
  bos: false,
};

async function attached(config: ContractSettings = settings): Promise<string> {
  made += 1;
  const out = path.join(root, `attached-${made}`);
  await attach({ config, modelDir: model, out });
  return out;
}

function json(file: string): Record<string, never> {
  return JSON.parse(readFileSync(file, 'utf8')) as Record<string, never>;
}

/** Change lockstep.json by hand; `sealed` also makes its digest right again. */
function edit(dir: string, change: (contract: Contract) => void, sealed = false): void {
  const file = path.join(dir, 'lockstep.json');
  const contract = json(file) as unknown as Contract;
  change(contract);
  if (sealed) contract.digest = digestOf(contract);
  writeFileSync(file, JSON.stringify(contract));
}

describe('attach', () => {
  test('links the weights, copies the rest, writes contract, policy, architecture and card', async () => {
    const out = await attached();
    expect(readdirSync(out).sort()).toEqual([
      'README.md',
      'chat_template.jinja',
      'config.json',
      'lockstep.json',
      'model.safetensors',
      'policy.js',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    const inode = (dir: string, name: string): number => statSync(path.join(dir, name)).ino;
    expect(inode(out, 'model.safetensors')).toBe(inode(model, 'model.safetensors'));
    expect(inode(out, 'tokenizer.json')).not.toBe(inode(model, 'tokenizer.json'));
    expect(json(path.join(out, 'config.json'))['architectures']).toEqual([
      'SegmentedLlamaForCausalLM',
    ]);
    expect(json(path.join(out, 'config.json'))['model_type']).toBe('lockstep_llama');
    expect(json(path.join(model, 'config.json'))['architectures']).toEqual(['LlamaForCausalLM']);
    expect(json(path.join(model, 'config.json'))['model_type']).toBe('llama');
    const card = readFileSync(path.join(out, 'README.md'), 'utf8');
    expect(card).toContain('Not trained under this contract');
    const { contract, policySource } = await readContract(out);
    expect(contract.policy.sha256).toBe(sha256(policySource));
    expect(contract.trained).toMatchObject({ steps: 0, tokens: 0 });
    const weights = sha256(readFileSync(path.join(model, 'model.safetensors')));
    expect(contract.trained.weights.files).toEqual({ 'model.safetensors': weights });
    expect(contract.training).toEqual({ truncation: 1 });
    expect(contract.heads.long).toEqual([[0], [0], [0], [0]]);
    expect(contract.tokenizer).toMatchObject({ size: tinyVocabulary, bos: null, ends: [2] });
    expect(contract.golden.some(({ boundaries }) => boundaries.length > 1)).toBe(true);
    for (const { boundaries } of contract.golden) {
      for (const boundary of boundaries) expect(boundary % 2).toBe(0);
    }
  });

  test('the digest does not depend on training settings, folders or time', async () => {
    const [a, b] = [await attached(), await attached({ ...settings, training: { truncation: 3 } })];
    const [first, second] = [await readContract(a), await readContract(b)];
    expect(second.contract.training.truncation).toBe(3);
    expect(second.contract.digest).toBe(first.contract.digest);
    const other = await attached({ ...settings, carry: { size: 8, sinks: 0 } });
    expect((await readContract(other)).contract.digest).not.toBe(first.contract.digest);
    expect(readFileSync(path.join(other, 'README.md'), 'utf8')).toContain('No attention sinks');
  });

  test('an existing folder stays unless forced; force replaces only checkpoints with a contract', async () => {
    const out = await attached();
    const run = (dir: string, force: boolean) =>
      attach({ config: settings, modelDir: model, out: dir, force });
    await expect(run(out, false)).rejects.toMatchObject({ code: 'LS_ATTACH_EXISTS', field: 'out' });
    writeFileSync(path.join(out, 'old'), '');
    await run(out, true);
    expect(existsSync(path.join(out, 'old'))).toBe(false);
    const precious = path.join(root, 'precious');
    mkdirSync(precious);
    writeFileSync(path.join(precious, 'thesis.txt'), 'text');
    await expect(run(precious, true)).rejects.toMatchObject({ code: 'LS_ATTACH_EXISTS' });
    expect(readdirSync(precious)).toEqual(['thesis.txt']);
    await expect(run(model, true)).rejects.toMatchObject({ code: 'LS_ATTACH_SAME' });
    await expect(run(root, true)).rejects.toMatchObject({ code: 'LS_ATTACH_SAME' });
  });

  test.each([
    ['12', '{"trained":{"steps":12,"tokens":400}}'],
    ['an unknown number of', '{'],
  ])('a training is not replaced by --force alone: %s steps', async (steps, document) => {
    const out = await attached();
    writeFileSync(path.join(out, 'lockstep.json'), document);
    const run = (discardTraining: boolean) =>
      attach({ config: settings, modelDir: model, out, force: true, discardTraining });
    await expect(run(false)).rejects.toMatchObject({
      code: 'LS_ATTACH_TRAINED',
      message: expect.stringContaining(`${steps} steps`),
      field: 'discard-training',
    });
    expect(readFileSync(path.join(out, 'lockstep.json'), 'utf8')).toBe(document);
    await run(true);
    expect((await readContract(out)).contract.trained.steps).toBe(0);
  });

  test('a failure leaves nothing behind', async () => {
    const before = readdirSync(root).sort();
    const run = attach({
      config: { ...settings, heads: { long: [9] } },
      modelDir: model,
      out: path.join(root, 'never'),
    });
    await expect(run).rejects.toMatchObject({ code: 'LS_CONFIG_INVALID' });
    expect(readdirSync(root).sort()).toEqual(before);
  });

  test.each<[string, Record<string, unknown>, string]>([
    ['another architecture', { model_type: 'gpt2' }, 'model_type'],
    [
      'dynamic RoPE',
      { rope_parameters: { rope_type: 'dynamic', factor: 2 } },
      'rope_parameters.rope_type',
    ],
    [
      'LongRoPE as older files write it',
      { rope_scaling: { type: 'longrope' } },
      'rope_scaling.rope_type',
    ],
    ['a sliding window', { model_type: 'mistral', sliding_window: 4096 }, 'sliding_window'],
    ['a Mistral that does not say', { model_type: 'mistral' }, 'sliding_window'],
    [
      'sliding layers from the third on',
      {
        model_type: 'qwen2',
        use_sliding_window: true,
        sliding_window: 16,
        max_window_layers: 2,
      },
      'use_sliding_window',
    ],
    ['sliding layers', { layer_types: ['full_attention', 'sliding_attention'] }, 'layer_types'],
    ['quantized weights', { quantization_config: { bits: 4 } }, 'quantization_config'],
  ])('%s is refused', async (name, config, field) => {
    const dir = tinyCheckpoint(path.join(root, `refused-${name.replaceAll(' ', '-')}`), config);
    const run = attach({ config: settings, modelDir: dir, out: path.join(root, 'never') });
    await expect(run).rejects.toMatchObject({ code: 'LS_MODEL_UNSUPPORTED', field });
  });

  test.each([
    ['llama', 'SegmentedLlamaForCausalLM', {}],
    ['qwen2', 'SegmentedQwen2ForCausalLM', { sliding_window: 4096, use_sliding_window: false }],
    ['qwen2', 'SegmentedQwen2ForCausalLM', { sliding_window: 4096 }],
    [
      'qwen2',
      'SegmentedQwen2ForCausalLM',
      { sliding_window: 4096, use_sliding_window: true, max_window_layers: 4 },
    ],
    ['qwen3', 'SegmentedQwen3ForCausalLM', { layer_types: Array(4).fill('full_attention') }],
    [
      'mistral',
      'SegmentedMistralForCausalLM',
      { sliding_window: null, rope_scaling: { type: 'yarn', factor: 4 } },
    ],
  ])('%s becomes %s', async (type, architecture, config) => {
    made += 1;
    const dir = tinyCheckpoint(path.join(root, `${type}-${made}`), { model_type: type, ...config });
    const out = path.join(root, `${type}-${made}-attached`);
    await attach({ config: settings, modelDir: dir, out });
    expect(json(path.join(out, 'config.json'))['architectures']).toEqual([architecture]);
    expect(json(path.join(out, 'config.json'))['model_type']).toBe(`lockstep_${type}`);
    await readContract(out);
  });

  test('pickled, missing and absent checkpoints are refused', async () => {
    const dir = tinyCheckpoint(path.join(root, 'pickled'));
    rmSync(path.join(dir, 'model.safetensors'));
    const run = (modelDir: string) =>
      attach({ config: settings, modelDir, out: path.join(root, 'never') });
    await expect(run(dir)).rejects.toMatchObject({ code: 'LS_MODEL_WEIGHTS' });
    writeFileSync(path.join(dir, 'pytorch_model.bin'), '');
    await expect(run(dir)).rejects.toMatchObject({
      code: 'LS_MODEL_WEIGHTS',
      message: expect.stringContaining('pytorch_model.bin'),
    });
    await expect(run(path.join(root, 'absent'))).rejects.toMatchObject({
      code: 'LS_MODEL_MISSING',
    });
  });
});

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

  test('blocks and a carry of all heads stand in the contract, and in no other', async () => {
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
      message: expect.stringMatching(/3 problems.*got 7.*got 8.*got 9/s),
    });
  });

  test('bos stands in the contract, and needs a tokenizer that has it', async () => {
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

describe('a checkpoint edited by hand', () => {
  let dir: string;
  beforeAll(async () => {
    dir = await attached();
  });
  const backup = new Map<string, Buffer>();
  const change = (name: string, edited: () => void) => async () => {
    const file = path.join(dir, name);
    backup.set(file, readFileSync(file));
    try {
      edited();
      await readContract(dir);
      return 'accepted';
    } catch (error) {
      return error;
    } finally {
      writeFileSync(file, backup.get(file) as Buffer);
    }
  };
  const contractEdit = (edited: (contract: Contract) => void, sealed = false) =>
    change('lockstep.json', () => edit(dir, edited, sealed));
  const configEdit = (field: string, value: unknown) =>
    change('config.json', () => {
      const file = path.join(dir, 'config.json');
      writeFileSync(file, JSON.stringify({ ...json(file), [field]: value }));
    });
  const append = (name: string) =>
    change(name, () => writeFileSync(path.join(dir, name), ' ', { flag: 'a' }));

  test.each<[string, () => Promise<unknown>, string, string]>([
    [
      'carry.size',
      contractEdit((c) => {
        c.carry.size = 9;
      }),
      'LS_CONTRACT_DIGEST',
      'digest',
    ],
    [
      'tables',
      contractEdit((c) => {
        c.tables = [1];
      }),
      'LS_CONTRACT_DIGEST',
      'digest',
    ],
    [
      'an unknown field',
      contractEdit((c) => {
        Object.assign(c, { more: 1 });
      }),
      'LS_CONTRACT_SCHEMA',
      '',
    ],
    [
      'a wrong type',
      contractEdit((c) => {
        Object.assign(c.segment, { max: '9' });
      }),
      'LS_CONTRACT_SCHEMA',
      'segment.max',
    ],
    [
      'no JSON',
      change('lockstep.json', () => writeFileSync(path.join(dir, 'lockstep.json'), '{')),
      'LS_CONTRACT_SCHEMA',
      '',
    ],
    ['policy.js', append('policy.js'), 'LS_CONTRACT_POLICY', 'policy.sha256'],
    ['tokenizer.json', append('tokenizer.json'), 'LS_CONTRACT_TOKENIZER', 'tokenizer.sha256'],
    [
      'architectures',
      configEdit('architectures', ['LlamaForCausalLM']),
      'LS_CONTRACT_ARCHITECTURE',
      'architectures',
    ],
    [
      'the model type',
      configEdit('model_type', 'qwen2'),
      'LS_CONTRACT_ARCHITECTURE',
      'architectures',
    ],
    [
      'a model type that plain transformers would run',
      configEdit('model_type', 'llama'),
      'LS_CONTRACT_ARCHITECTURE',
      'model_type',
    ],
    [
      'the vocabulary',
      configEdit('vocab_size', 400),
      'LS_CONTRACT_ARCHITECTURE',
      'model.vocabulary',
    ],
    ['the layers', configEdit('num_hidden_layers', 5), 'LS_CONTRACT_ARCHITECTURE', 'model.layers'],
    [
      'long heads, sealed',
      contractEdit((c) => {
        c.heads.long[3] = [0, 3];
      }, true),
      'LS_CONTRACT_ARCHITECTURE',
      'heads.long[3]',
    ],
    [
      'golden boundaries, sealed',
      contractEdit((c) => {
        c.golden[0]?.boundaries.splice(1, 1, 7);
      }, true),
      'LS_CONTRACT_GOLDEN',
      'golden[0].boundaries[1]',
    ],
    [
      'segment.max, sealed',
      contractEdit((c) => {
        c.segment.max = 16;
      }, true),
      'LS_CONTRACT_GOLDEN',
      'golden[0].boundaries[0]',
    ],
  ])('%s', async (_, run, code, field) => {
    const error = (await run()) as { message: string; mend: string };
    expect(error).toMatchObject({ code, ...(field === '' ? {} : { field }) });
    expect(error.mend).toContain('lockstep attach');
  });

  test('both values are named', async () => {
    const error = (await configEdit('vocab_size', 400)()) as Error;
    expect(error.message).toContain(String(tinyVocabulary));
    expect(error.message).toContain('400');
  });

  test('training and trained are not part of what was agreed', async () => {
    const run = contractEdit((c) => {
      c.training.truncation = 5;
      c.trained = { ...c.trained, steps: 3, tokens: 4096 };
    });
    expect(await run()).toBe('accepted');
  });

  test('a missing part is named', async () => {
    const out = await attached();
    rmSync(path.join(out, 'tokenizer.json'));
    await expect(readContract(out)).rejects.toMatchObject({ code: 'LS_CONTRACT_TOKENIZER' });
    rmSync(path.join(out, 'policy.js'));
    await expect(readContract(out)).rejects.toMatchObject({ code: 'LS_CONTRACT_POLICY' });
    rmSync(path.join(out, 'lockstep.json'));
    await expect(readContract(out)).rejects.toMatchObject({ code: 'LS_CONTRACT_MISSING' });
  });
});
