// lockstep doctor and lockstep perplexity, as a user runs them.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { findPython, type Python, pythonEnvironment } from '../src/bridge/index.ts';
import { attach } from '../src/checkpoint/index.ts';
import { packageRoot } from '../src/paths.ts';
import { fixed } from '../src/policies/index.ts';
import { tinyModel } from './tiny-model.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

let folder: string;
let dir: string;
let python: Python;

function cli(...args: string[]): { stdout: string; stderr: string; status: number | null } {
  const main = path.join(packageRoot, 'dist', 'cli', 'main.js');
  return spawnSync(process.execPath, [main, ...args], {
    encoding: 'utf8',
    env: { ...process.env, OMP_NUM_THREADS: '1', NO_COLOR: '1' },
  });
}

beforeAll(async () => {
  python = await findPython();
  folder = mkdtempSync(path.join(tmpdir(), 'lockstep-commands-'));
  const model = await tinyModel(path.join(folder, 'model'));
  dir = path.join(folder, 'checkpoint');
  await attach({
    config: {
      policy: fixed({ size: 20 }),
      segment: { min: 1, max: 20, align: 1 },
      carry: { size: 6, sinks: 4 },
      retrieval: { size: 16, recipe: 'anchors', layers: [2] },
      heads: { long: [0] },
      bos: false,
    },
    modelDir: model,
    out: dir,
  });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('lockstep doctor', () => {
  it('names versions, the interpreter and why it was taken', () => {
    const { stdout, status } = cli('doctor', '--json');
    const diagnosis = JSON.parse(stdout) as {
      ok: boolean;
      checks: { name: string; status: string }[];
      python: { executable: string; source: string; tried: unknown[] };
      versions: Record<string, string>;
    };
    expect(status).toBe(diagnosis.ok ? 0 : 1);
    expect(diagnosis.ok).toBe(diagnosis.checks.every((check) => check.status !== 'missing'));
    expect(diagnosis.versions).toMatchObject({ node: process.versions.node });
    for (const name of [
      'lockstep',
      'onnxruntime-node',
      'python',
      'python:torch',
      'python:transformers',
      'python:onnxruntime',
      'python:wasmtime',
      'policy engine',
    ]) {
      expect(diagnosis.versions[name]).toMatch(/^\d+\.\d+/);
    }
    expect(diagnosis.python.executable).toBe(python.executable);
  });

  it('has a fix for whatever is not as it should be', () => {
    const { stdout } = cli('doctor', '--python', '/nowhere/python', '--json');
    const { checks } = JSON.parse(stdout) as {
      checks: { name: string; status: string; fix?: string }[];
    };
    const wrong = checks.filter(({ status }) => status !== 'ok');
    expect(wrong.map(({ name }) => name)).toContain('Python');
    for (const { name, fix } of wrong) expect(fix, name).toBeTruthy();
  });

  it('exits 1 and says how to fix it when Python is missing', () => {
    const { stdout, status } = cli('doctor', '--python', '/nowhere/python');
    expect(status).toBe(1);
    expect(stdout).toMatch(/✗ Python .*\/nowhere\/python/);
    expect(stdout).toContain('npm run setup');
    expect(stdout).toContain('missing: Python');
  });
});

describe('lockstep perplexity', () => {
  const script = `
import dataclasses, json, sys, torch
torch.set_num_threads(1)
from transformers import AutoModelForCausalLM
from lockstep import load
from lockstep.operator.model import Model
model = load(sys.argv[1])
ids = json.loads(sys.argv[2])
def perplexity(logits):
    return float(torch.nn.functional.cross_entropy(logits[:-1].double(), torch.tensor(ids[1:])).exp())
bare = Model.from_module(model.module, dataclasses.replace(model.spec, sinks=0))
cuts = list(range(20, len(ids) + 1, 20))
stock = AutoModelForCausalLM.from_pretrained(sys.argv[3]).eval()
with torch.no_grad():
    full = stock(torch.tensor([ids])).logits[0]
print(json.dumps({"full": perplexity(full), "noSinks": perplexity(bare.logits(ids, cuts)),
                  "segmented": perplexity(model.logits(ids, cuts, form="tokens"))}))`;

  it('equals what transformers and the token-by-token form give', async () => {
    const text = path.join(folder, 'text.txt');
    const words =
      'It was the best of times, it was the worst of times, é\u2028 the age of wisdom. ';
    writeFileSync(text, `skipped ${words.repeat(40)}`);
    const { loadTokenizer } = await import('../src/tokenizer/tokenizer.ts');
    const all = await (await loadTokenizer(dir)).encode(readFileSync(text, 'utf8').slice(8));
    const run = cli(
      'perplexity',
      dir,
      '--text',
      text,
      '--skip',
      '8',
      '--tokens',
      '50,90',
      '--json',
    );
    // Nothing but progress, which a slow machine prints every few seconds.
    expect(run.stderr).toMatch(/^(perplexity.*\n)*$/);
    const result = JSON.parse(run.stdout) as {
      perplexity: Record<string, Record<string, number>>;
      boundaries: Record<string, number>;
    };
    expect(result.boundaries).toEqual({ 50: 2, 90: 4 });
    for (const length of [50, 90]) {
      const ids = JSON.stringify([...all.slice(0, length)]);
      const args = ['-c', script, dir, ids, path.join(folder, 'model')];
      const env = pythonEnvironment();
      const printed = execFileSync(python.executable, args, {
        env,
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const expected = JSON.parse(String(printed)) as Record<string, number>;
      for (const [mode, value] of Object.entries(expected)) {
        const measured = result.perplexity[length]?.[mode] as number;
        expect(Math.log(measured / value)).toBeCloseTo(0, 5);
      }
      expect(
        Math.abs((expected['full'] as number) - (expected['segmented'] as number)),
      ).toBeGreaterThan(0.01);
    }
  });

  it('names a text that is too short and modes that do not exist', () => {
    const text = path.join(folder, 'short.txt');
    writeFileSync(text, 'too short');
    const short = cli('perplexity', dir, '--text', text, '--tokens', '100');
    expect(short.status).toBe(1);
    expect(short.stderr).toContain('LS_TEXT_SHORT');
    expect(cli('perplexity', dir, '--attention', 'sparse').status).toBe(2);
  });
});
