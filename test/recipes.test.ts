// The recipes of examples/: each config loads as it is, and trains with its own settings at a tiny size.
import { execFile, execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ownReport, parameters, rows, settingOf } from '../examples/llama-2-7b/memory.ts';
import { findPython } from '../src/bridge/index.ts';
import type { TrainResult } from '../src/cli/train/events.ts';
import { loadConfig } from '../src/config/index.ts';
import { packageRoot } from '../src/paths.ts';
import { readmeArguments, readmeCommands } from './helpers/readme.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';
import { tinyModel } from './tiny-model.ts';

const run = promisify(execFile);
const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
const env = { ...process.env, OMP_NUM_THREADS: '1', NO_COLOR: '1' };
const recipe = (name: string): string =>
  path.join(packageRoot, 'examples', name, 'lockstep.config.ts');
let home: string;
let python: string;

/** Train a recipe with everything it says but sizes; the last event. */
async function train(
  name: string,
  model: string,
  sizes: string,
  budget: string,
  args: string[] = [],
  data = "data: { train: ['text.txt'], validation: ['text.txt'] },",
): Promise<TrainResult & { events: Record<string, unknown>[] }> {
  const config = `${name}.config.ts`;
  writeFileSync(
    path.join(home, config),
    `import { defineConfig, fixed, sentences } from 'lockstep';
import recipe from '${recipe(name)}';
export default defineConfig({
  ...recipe, model: '${model}', out: 'out-${name}', ${sizes}
  ${data}
  training: { ...recipe.training, minutes: undefined, heldOutTokens: 64, ${budget} },
});
void fixed; void sentences;
`,
  );
  const { stdout } = await run(
    process.execPath,
    [cli, 'train', '--config', config, '--json', ...args],
    { cwd: home, env, maxBuffer: 1 << 24 },
  );
  const events = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { ...(events.at(-1) as unknown as TrainResult), events };
}

function startOf(result: { events: Record<string, unknown>[] }): Record<string, unknown> {
  return result.events.find(({ event }) => event === 'start') ?? expect.fail('expected a start');
}

function contractOf(name: string): Record<string, never> {
  return JSON.parse(readFileSync(path.join(home, `out-${name}`, 'lockstep.json'), 'utf8'));
}

beforeAll(async () => {
  home = temporaryFolder('recipes');
  python = (await findPython()).executable;
  copyFileSync(path.join(packageRoot, 'LICENSE'), path.join(home, 'text.txt'));
  // As many layers and KV heads as the recipe's own model, and almost no width.
  await tinyModel(path.join(home, 'smollm2'), {
    layers: 30,
    kv_heads: 3,
    group: 3,
    head_dim: 4,
    hidden: 36,
  });
}, 120_000);
afterAll(() => rmSync(home, { recursive: true, force: true }));

const small = 'segment: { min: 8, max: 32 }, carry: { size: 8, sinks: 4 },';

describe('recipes', () => {
  it('every config loads unchanged', async () => {
    for (const name of [
      'full-fine-tune',
      'lora',
      'chat',
      'two-processes',
      'qwen3-random',
      'llama-2-7b',
    ]) {
      const config = await loadConfig(recipe(name));
      expect(config.training, name).toBeDefined();
      // What the README says is what is trained below: its own config, with these flags.
      for (const line of readmeCommands(name).filter((one) => /lockstep train /.test(one))) {
        expect(line).toContain(`--config examples/${name}/lockstep.config.ts`);
      }
      expect(readmeArguments(name, 'train').length, name).toBeGreaterThan(0);
    }
  });

  it('full fine-tune: every weight learns, and older checkpoints stay', async () => {
    const sizes = `${small} policy: fixed({ size: 32 }), retrieval: { ...recipe.retrieval, size: 8 },`;
    const budget = 'sequence: 64, accumulate: 2, steps: 2, validateEvery: 1, saveEvery: 1,';
    const result = await train('full-fine-tune', 'smollm2', sizes, budget);
    const start = startOf(result);
    expect(start['trainable']).toBeGreaterThan(1000);
    expect(start['trainable']).toBe(start['parameters']);
    expect(result).toMatchObject({ stopped: false, step: 2, tokens: 256 });
  }, 300_000);

  it('LoRA: adapters learn, and the checkpoint is an ordinary one', async () => {
    const sizes = `${small} retrieval: { ...recipe.retrieval, size: 8, block: 8 },`;
    const result = await train('lora', 'smollm2', sizes, 'sequence: 64, steps: 2');
    const start = startOf(result);
    // 30 layers, four projections between 36 and 36 (q, o) or 12 (k, v), rank 16.
    expect(start['trainable']).toBe(30 * 16 * (2 * (36 + 36) + 2 * (36 + 12)));
    const args = ['perplexity', 'out-lora', '--tokens', '64', '--json'];
    const { stdout } = await run(process.execPath, [cli, ...args], { cwd: home, env });
    const { perplexity } = JSON.parse(stdout) as {
      perplexity: Record<string, Record<string, number>>;
    };
    expect(perplexity['64']?.['segmented']).toBeGreaterThan(1);
  }, 300_000);

  it('conversations: the answers are learned, the questions are not', async () => {
    const file = path.join(packageRoot, '.lockstep/texts/chitchat/conversations.jsonl');
    const lines = readFileSync(file, 'utf8').split('\n').slice(0, 40);
    writeFileSync(path.join(home, 'chats.jsonl'), lines.join('\n'));
    const data = "data: { train: ['chats.jsonl'], validation: ['chats.jsonl'] },";
    const sizes = `${small} retrieval: { ...recipe.retrieval, size: 8, block: 8 },`;
    const budget = 'sequence: 256, steps: 6, learningRate: 0.02, warmup: 0,';
    const result = await train('chat', 'smollm2', sizes, budget, [], data);
    expect(startOf(result)['read']).toMatchObject({ formats: { messages: 1 }, loss: 'assistant' });
    // Held-out targets are the answers' alone.
    const { before, after } = result.scores;
    expect(after).toBeLessThan((before as number) - 0.2);
    const { targets } = result.events.find(({ event }) => event === 'score') as { targets: number };
    expect(targets).toBeLessThan(40 * 63);
  }, 300_000);

  it('two processes take the same steps as one', async () => {
    const sizes = `${small} retrieval: { ...recipe.retrieval, size: 8, block: 8 },`;
    const budget = 'sequence: 64, steps: 2';
    const losses = (result: { events: Record<string, unknown>[] }): number[] =>
      result.events.filter(({ event }) => event === 'step').map((step) => Number(step['loss']));
    const [plain = [], sharded = []] = readmeArguments('two-processes', 'train');
    expect([plain, sharded]).toEqual([
      ['--nproc', '2'],
      ['--nproc', '2', '--shard', '--overwrite'],
    ]);
    const two = await train('two-processes', 'smollm2', sizes, budget, plain);
    const one = await train('two-processes', 'smollm2', sizes, budget, ['--overwrite']);
    expect(losses(two)).toHaveLength(2);
    for (const [i, loss] of losses(two).entries()) {
      expect(loss).toBeCloseTo(losses(one)[i] as number, 4);
    }
    expect(two.tokens).toBe(one.tokens);
  }, 300_000);

  it('a random Qwen3 is made and trained', async () => {
    const [, , model, out] = readmeCommands('qwen3-random')[0]?.split(' ') ?? [];
    expect([model, out].map((file) => path.basename(file ?? ''))).toEqual([
      'smollm2-135m-instruct',
      'qwen3-random',
    ]);
    const make = path.join(packageRoot, 'examples', 'qwen3-random', 'make.py');
    execFileSync(python, [make, 'smollm2', 'qwen3', '--hidden', '32', '--head-dim', '8'], {
      cwd: home,
      env,
    });
    const result = await train('qwen3-random', 'qwen3', '', 'sequence: 128, steps: 2');
    expect(result.step).toBe(2);
    const config = JSON.parse(
      readFileSync(path.join(home, 'out-qwen3-random/config.json'), 'utf8'),
    );
    expect(config.architectures).toEqual(['SegmentedQwen3ForCausalLM']);
  }, 300_000);

  it('Llama-2-7B: its own layers and heads on a tiny width', async () => {
    await tinyModel(path.join(home, 'llama'), {
      layers: 32,
      kv_heads: 32,
      group: 1,
      head_dim: 2,
      hidden: 64,
    });
    const sizes =
      'policy: fixed({ size: 32 }), segment: { min: 32, max: 32, align: 16 }, bos: false, ' +
      'carry: { size: 16, sinks: 4 }, retrieval: { ...recipe.retrieval, size: 8 },';
    const budget = 'sequence: 96, accumulate: 2, steps: 1, validateEvery: undefined, ';
    const result = await train('llama-2-7b', 'llama', sizes, budget);
    expect(result).toMatchObject({ step: 1, tokens: 192 });
    const { heads } = contractOf('llama-2-7b') as unknown as { heads: { long: number[][] } };
    expect(heads.long.map((list) => list.length).filter((n) => n > 0)).toEqual([16, 16, 16, 16]);
  }, 300_000);
});

describe('memory of Llama-2-7B', () => {
  const shape = {
    vocab_size: 264,
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 8,
    tie_word_embeddings: false,
  };

  it('stands in the README as the config gives it', () => {
    const readme = readFileSync(path.join(path.dirname(recipe('llama-2-7b')), 'README.md'), 'utf8');
    expect(readme).toContain(ownReport());
  });

  it('is counted as the operator counts it', () => {
    const setting = {
      segment: 32,
      carry: 8,
      sinks: 4,
      retrieval: 8,
      layers: [1, 2],
      long: [[], [0], [0, 1], []],
      truncation: 1,
      rank: 0,
    };
    const script = `
import json, torch, make_tiny
from lockstep.operator.model import Model
from lockstep.contract.spec import Spec
from lockstep.loader import load_module
module = load_module(make_tiny.write("untied", tied=False))
spec = Spec(max=32, carry=8, sinks=4, retrieval_size=8, recipe="topk", retrieval_layers=(1, 2),
            long_heads=((), (0,), (0, 1), ()))
model = Model.from_module(module, spec)
state, ids = model.state(), list(range(3, 131))
for at in range(0, 96, 32):
    model.step(state, ids[at : at + 32]); model.close(state)
between = state.nbytes()
model.step(state, ids[96:128])
print(json.dumps({"parameters": sum(p.numel() for p in module.parameters()), **between,
                  "open": state.nbytes()["open"]}))
`;
    const out = execFileSync(python, ['-c', script], {
      cwd: home,
      env: {
        ...env,
        PYTHONPATH: [path.join(packageRoot, 'python'), path.join(packageRoot, 'test/python')].join(
          path.delimiter,
        ),
      },
      encoding: 'utf8',
    });
    const own = JSON.parse(out.trim().split('\n').at(-1) ?? '') as Record<string, number>;
    expect(parameters(shape)).toBe(own['parameters']);
    const counted = rows(shape, setting, 96);
    const bytes = (name: string): number => (counted[name] ?? 0) * 2 * 8 * 4;
    for (const part of ['sinks', 'carry', 'retrieved']) expect(bytes(part), part).toBe(own[part]);
    // The pool has a little spare room; the open segment also keeps a few means of queries.
    expect(own['pool']).toBeGreaterThanOrEqual(bytes('pool'));
    expect(own['pool']).toBeLessThanOrEqual(1.25 * bytes('pool') + 1);
    expect(own['open']).toBeGreaterThanOrEqual(bytes('open'));
    expect(own['open']).toBeLessThanOrEqual(bytes('open') + 3 * 32 * 8 * 4);
  }, 120_000);

  it('follows the config', async () => {
    const config = await loadConfig(recipe('llama-2-7b'));
    const setting = settingOf(
      { ...config, training: config.training as never, model: '', out: '' } as never,
      { ...shape, num_hidden_layers: 32, num_key_value_heads: 32 },
    );
    expect(setting).toMatchObject({
      segment: 4096,
      carry: 512,
      sinks: 4,
      retrieval: 512,
      rank: 16,
    });
  });
});
