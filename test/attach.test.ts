// A contract put on a checkpoint: what is written, what is replaced, and which checkpoints are refused.
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { attach, readContract } from '../src/checkpoint/index.ts';
import { sha256 } from '../src/contract/index.ts';
import { packageRoot } from '../src/paths.ts';
import { contractFolder, json, settings } from './contract-fixture.ts';
import { tinyCheckpoint, tinyVocabulary } from './tiny-checkpoint.ts';

const { root, model, attached } = contractFolder('attach');
let made = 0;

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

describe('attach --check', () => {
  const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
  const empty = path.join(root, 'empty');
  const configured = path.join(root, 'configured');

  function check(cwd: string, ...args: string[]) {
    mkdirSync(cwd, { recursive: true });
    const options = { cwd, encoding: 'utf8', env: { ...process.env, NO_COLOR: '1' } } as const;
    const ran = spawnSync(process.execPath, [cli, 'attach', ...args, '--check'], options);
    return { code: ran.status, out: ran.stdout, error: ran.stderr };
  }

  function configure(long: string): void {
    mkdirSync(path.join(configured, 'node_modules'), { recursive: true });
    const link = path.join(configured, 'node_modules', 'lockstep');
    if (!existsSync(link)) symlinkSync(packageRoot, link);
    writeFileSync(
      path.join(configured, 'lockstep.config.ts'),
      `import { defineConfig, fixed } from 'lockstep';
export default defineConfig({ model: 'm', out: 'o', policy: fixed({ size: 8 }), segment: { max: 16 },
  carry: { size: 4 }, retrieval: { size: 4, layers: [1] }, heads: { long: ${long} } });
`,
    );
  }

  test('says what the model is, and that there is no config to check', () => {
    const found = check(empty, model);
    expect(found).toMatchObject({ code: 0, error: '' });
    expect(found.out).toContain('fits: Llama, 4 layers, 6 query heads, 3 KV heads');
    expect(found.out).toContain('no config to check');
    expect(readdirSync(empty)).toEqual([]);
  });

  test('makes the contract of the config, the one that attach writes, and writes nothing', () => {
    configure('[1]');
    const before = readdirSync(configured);
    const { out } = check(configured, model, '--json');
    expect(readdirSync(configured)).toEqual(before);
    const attached = spawnSync(
      process.execPath,
      [cli, 'attach', model, '--out', 'attached', '--no-probe', '--json'],
      { cwd: configured, encoding: 'utf8' },
    );
    const { digest } = JSON.parse(attached.stdout);
    expect(JSON.parse(out)).toEqual({
      ...{ fits: true, family: 'Llama', layers: 4, queryHeads: 6, kvHeads: 3 },
      ...{ vocabulary: tinyVocabulary, chat: true, digest },
    });
  });

  test.each([
    ['a head that the model lacks', '[7]', {}, 'LS_CONFIG_INVALID'],
    ['a sliding window', '[1]', { sliding_window: 16 }, 'LS_MODEL_UNSUPPORTED'],
  ])('refuses %s', (name, long, config, code) => {
    configure(long);
    const dir = tinyCheckpoint(path.join(root, `checked-${name.replaceAll(' ', '-')}`), config);
    const found = check(configured, dir);
    expect(found.code).toBe(1);
    expect(found.error).toContain(code);
  });

  test('takes no option of what it does not do', () => {
    for (const [option, value = []] of [
      ['--discard-training'],
      ['--upgrade'],
      ['--no-probe'],
      ['--out', ['a']],
      ['--python', ['b']],
    ] as [string, string[]?][]) {
      const { code, error } = check(empty, model, option, ...value);
      expect([option, code]).toEqual([option, 2]);
      expect(error).toContain(`expected no --check with ${option}, got both`);
    }
  });
});
