// The probe: engines that compute what was trained pass it, others are not served.
import { execFile, execFileSync } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { pythonEnvironment } from '../src/bridge/index.ts';
import { attach, readContract } from '../src/checkpoint/index.ts';
import type { Engine } from '../src/engines/engine.ts';
import { openOnnxEngine } from '../src/engines/onnx.ts';
import { type Probe, readProbe, runProbe } from '../src/engines/probe.ts';
import { openTorchEngine } from '../src/engines/torch.ts';
import { packageRoot } from '../src/paths.ts';
import { fixed } from '../src/policies/index.ts';
import { type TinyCase, TinyCheckpoints } from './onnx-checkpoints.ts';

// biome-ignore lint/suspicious/noExplicitAny: a probe is edited freely here
type Any = any;

const one: TinyCase = {
  name: 'llama',
  architecture: 'llama',
  model: { layers: 3, kv_heads: 2, hidden: 32 },
  segment: 40,
  carry: { size: 12, sinks: 2 },
  retrieval: { size: 8, recipe: 'topk', layers: [1, 2] },
  heads: [1],
  tokens: [],
  boundaries: [],
};

let folder: string;
let made: TinyCheckpoints;
let dir: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-probe-'));
  made = await TinyCheckpoints.make(folder, [one]);
  dir = made.dir(one);
  await made.export([one], ['fp32', 'int8', 'int4']);
  made.finish();
}, 240_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A copy of the checkpoint to be spoilt. */
async function copy(name: string): Promise<string> {
  const other = path.join(folder, name);
  await cp(dir, other, { recursive: true, dereference: true });
  return other;
}

async function edit(where: string, change: (probe: Any) => unknown): Promise<void> {
  const file = path.join(where, 'probe.json');
  const probe = JSON.parse(await readFile(file, 'utf8'));
  change(probe);
  await writeFile(file, JSON.stringify(probe));
}

async function ran(where: string, open: () => Promise<Engine>, most?: number) {
  const source = await readContract(where);
  const probe = (await readProbe(where, source.contract)) as Probe;
  const engine = await open();
  try {
    const outcome = await runProbe(engine, source, probe, most);
    expect(engine.sessions).toBe(0);
    return outcome;
  } finally {
    await engine.close();
  }
}

const opening: Record<string, (where: string) => Promise<Engine>> = {
  'onnx fp32': (where) => openOnnxEngine(where, { threads: 1 }),
  'onnx int8': (where) => openOnnxEngine(where, { threads: 1, precision: 'int8' }),
  'onnx int4': (where) => openOnnxEngine(where, { threads: 1, precision: 'int4' }),
  'torch float32': (where) => openTorchEngine(where, { threads: 1, python: made.python }),
  'torch bfloat16': (where) =>
    openTorchEngine(where, { threads: 1, python: made.python, dtype: 'bfloat16' }),
};

describe('a probe that lockstep export recorded', () => {
  test.each(Object.keys(opening))(
    '%s passes it',
    async (name) => {
      const outcome = await ran(dir, () => opening[name]?.(dir) as Promise<Engine>);
      expect(outcome).toMatchObject({ status: 'passed', tokens: 200, boundaries: 5 });
      expect(outcome.positions).toBeGreaterThan(24);
      expect(outcome.off).toBeLessThanOrEqual(outcome.bound as number);
      if (/fp32|float32/.test(name)) expect(outcome.off).toBeLessThan(1e-4);
      else expect(outcome.off).toBeGreaterThan(1e-3);
    },
    120_000,
  );

  test('the part of it that fits is run', async () => {
    const short = await ran(dir, () => openOnnxEngine(dir, { threads: 1 }), 90);
    expect(short).toMatchObject({ status: 'passed', tokens: 90, boundaries: 2 });
    expect(await ran(dir, () => openOnnxEngine(dir, { threads: 1 }), 0)).toMatchObject({
      status: 'short',
      positions: 0,
    });
  }, 60_000);

  test.each(['onnx fp32', 'torch float32'])(
    '%s: one number of it changed by a hundredth',
    async (name) => {
      const other = await copy(`edited ${name}`);
      let position = -1;
      await edit(other, (probe) => {
        const row = probe.rows.at(-1);
        row.logp[2] += 0.01;
        position = row.position;
      });
      await expect(
        ran(other, () => opening[name]?.(other) as Promise<Engine>),
      ).rejects.toMatchObject({
        code: 'LS_PROBE_MISMATCH',
        message: expect.stringMatching(
          new RegExp(
            `within 0.002 nats \\(largest, ${name}\\), got .* after position ${position} `,
          ),
        ),
      });
    },
    120_000,
  );

  test('other weights, where nobody looks at their checksum', async () => {
    const other = await copy('weights');
    const script = `
import sys
from safetensors.torch import load_file, save_file
file = sys.argv[1] + "/model.safetensors"
weights = load_file(file)
weights["model.layers.1.self_attn.v_proj.weight"][3] *= 1.5
save_file(weights, file, metadata={"format": "pt"})
`;
    execFileSync(made.python.executable, ['-c', script, other], { env: pythonEnvironment() });
    // It would be refused first.
    vi.stubEnv('LOCKSTEP_NO_WEIGHTS_CHECK', '1');
    try {
      await expect(
        ran(other, () => opening['torch float32']?.(other) as Promise<Engine>),
      ).rejects.toMatchObject({ code: 'LS_PROBE_MISMATCH' });
    } finally {
      vi.unstubAllEnvs();
    }
  }, 120_000);
});

describe('a file that is no probe of this checkpoint', () => {
  test.each<[string, string, (probe: Any) => unknown]>([
    ['another contract', 'LS_PROBE_STALE', (probe) => (probe.digest = 'e'.repeat(64))],
    ['other weights', 'LS_PROBE_STALE', (probe) => (probe.weights = 'e'.repeat(64))],
    ['another format', 'LS_PROBE_FILE', (probe) => (probe.probe = 2)],
    ['no rows', 'LS_PROBE_FILE', (probe) => (probe.rows = [])],
    ['a row behind the end', 'LS_PROBE_FILE', (probe) => (probe.rows[0].position = 10_000)],
    ['a number too few', 'LS_PROBE_FILE', (probe) => probe.rows[0].logp.pop()],
  ])('%s: %s', async (name, code, change) => {
    const other = await copy(`no probe ${name}`);
    await edit(other, change);
    const { contract } = await readContract(other);
    await expect(readProbe(other, contract)).rejects.toMatchObject({
      code,
      fix: expect.stringContaining('lockstep probe'),
    });
  });

  test('no probe', async () => {
    const other = await copy('none');
    await rm(path.join(other, 'probe.json'));
    expect(await readProbe(other, (await readContract(other)).contract)).toBeNull();
  });
});

describe('in the commands', () => {
  const main = path.join(packageRoot, 'dist', 'cli', 'main.js');

  /** Exit code and output of a command that ends by itself, or of a server once it is ready. */
  async function lockstep(...args: string[]): Promise<{ code: number; out: string; err: string }> {
    const controller = new AbortController();
    const running = promisify(execFile)(process.execPath, [main, ...args], {
      env: { ...process.env, OMP_NUM_THREADS: '1', NO_COLOR: '1' },
      signal: controller.signal,
      killSignal: 'SIGTERM',
    });
    let out = '';
    running.child.stdout?.on('data', (text) => {
      out += text;
      if (String(text).includes('"event":"ready"')) running.child.kill('SIGTERM');
    });
    return running.then(
      ({ stdout, stderr }) => ({ code: 0, out: stdout, err: stderr }),
      (error) => ({ code: error.code ?? -1, out, err: error.stderr }),
    );
  }
  const serve = (where: string, ...args: string[]) =>
    lockstep('serve', where, '--port', '0', '--threads', '1', ...args);

  test('serve prints the outcome of the probe', async () => {
    const { out } = await serve(dir, '--json');
    expect(JSON.parse(out).probe).toMatchObject({
      status: 'passed',
      positions: expect.any(Number),
    });
    expect(JSON.parse((await serve(dir, '--json', '--no-probe')).out).probe.status).toBe('skipped');
    const other = await copy('serve none');
    await rm(path.join(other, 'probe.json'));
    expect(JSON.parse((await serve(other, '--json')).out).probe.status).toBe('absent');
  }, 120_000);

  test('serve exits if the probe fails, unless --no-probe is given', async () => {
    const other = await copy('serve edited');
    await edit(other, (probe) => (probe.rows[0].logp[0] += 0.01));
    const { code, err } = await serve(other);
    expect(code).toBe(1);
    expect(err).toContain('LS_PROBE_MISMATCH');
    expect(err).not.toContain('serving');
    expect(JSON.parse((await serve(other, '--json', '--no-probe')).out).event).toBe('ready');
  }, 120_000);

  test('--no-probe is refused with an upstream server, which others started', async () => {
    const at = ['--engine', 'vllm', '--upstream', 'http://127.0.0.1:9'];
    const { code, err } = await lockstep('serve', dir, ...at, '--no-probe');
    expect(code).toBe(2);
    expect(err).toContain('LOCKSTEP_PROBE=0');
  }, 60_000);

  test('lockstep probe records it again, to the same numbers', async () => {
    const other = await copy('again');
    const before = await readFile(path.join(other, 'probe.json'), 'utf8');
    await rm(path.join(other, 'probe.json'));
    const { code, out } = await lockstep('probe', other, '--json');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ tokens: 200, boundaries: 5 });
    const after = JSON.parse(await readFile(path.join(other, 'probe.json'), 'utf8')) as Probe;
    expect(after.rows.map(({ position }) => position)).toEqual(
      (JSON.parse(before) as Probe).rows.map(({ position }) => position),
    );
  }, 120_000);

  test('attach records one where Python is, and leaves the base model its own', async () => {
    const config = path.join(folder, 'lockstep.config.ts');
    await writeFile(
      config,
      `import { defineConfig, fixed } from 'lockstep';
export default defineConfig({ model: ${JSON.stringify(dir)}, out: 'out', policy: fixed(),
  segment: { max: 40 }, carry: { size: 12 }, retrieval: { size: 0, layers: [] }, bos: false });`,
    );
    const out = path.join(folder, 'attached');
    const done = await lockstep('attach', dir, '--config', config, '--out', out, '--json');
    const told = JSON.parse(done.out);
    const { contract } = await readContract(out);
    expect((await readProbe(out, contract))?.digest).toBe(told.digest);
    expect(told.probe).toMatchObject({ tokens: 200 });
    const without = path.join(folder, 'without');
    const elsewhere = ['--python', path.join(folder, 'nowhere')];
    const bare = await lockstep('attach', dir, '--config', config, '--out', without, ...elsewhere);
    expect(bare.code).toBe(0);
    expect(bare.out).toContain('no probe');
    expect(await readProbe(without, (await readContract(without)).contract)).toBeNull();
  }, 120_000);

  test('a probe is not taken over from the model that a contract is attached to', async () => {
    const out = path.join(folder, 'plain');
    await attach({
      config: {
        policy: fixed(),
        segment: { min: 1, max: 24, align: 1 },
        carry: { size: 8, sinks: 2 },
        retrieval: { size: 0, recipe: 'anchors', layers: [] },
        heads: { long: [] },
        bos: false,
      } as Any,
      modelDir: dir,
      out,
    });
    expect(await readProbe(out, (await readContract(out)).contract)).toBeNull();
  });
});
