import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { findPython, type Python, pythonEnvironment } from '../src/bridge/index.ts';
import { attach } from '../src/checkpoint/index.ts';
import type { Engine, EngineSession, Retrieved } from '../src/engines/engine.ts';
import { openTorchEngine } from '../src/engines/torch.ts';
import type { LockstepError } from '../src/errors.ts';
import { sentences } from '../src/policies/index.ts';
import { tinyModel } from './tiny-model.ts';

// An interpreter that imports torch takes its time on a busy machine.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const S = 24;
let folder: string;
let dir: string;
let python: Python;
let engine: Engine;

const failure = async (work: Promise<unknown>): Promise<LockstepError> =>
  work.then(
    (value) => {
      throw new Error(`expected a failure, got ${JSON.stringify(value)}`);
    },
    (error) => error as LockstepError,
  );

/** Token ids that no policy needs to like: boundaries are given by hand here. */
const ids = Array.from({ length: 100 }, (_, i) => 3 + ((i * i * 7 + 11 * i) % 250));
const boundaries = [24, 31, 55, 79, 84];

/** Feed `ids` in pieces of `size` that end at boundaries; logits of every token. */
async function feed(
  session: EngineSession,
  size: number,
): Promise<{ rows: Float32Array[]; retrieved: Map<number, Retrieved[]> }> {
  const rows: Float32Array[] = [];
  const retrieved = new Map<number, Retrieved[]>();
  const edges = [0, ...boundaries, ids.length];
  for (let i = 0; i + 1 < edges.length; i++) {
    const end = edges[i + 1] as number;
    for (let at = edges[i] as number; at < end; at += size) {
      const to = Math.min(end, at + size);
      const step = await session.step(ids.slice(at, to), {
        rows: 'all',
        close: to === end && end < ids.length,
      });
      expect(step.rows).toBe(to - at);
      const width = engine.info.vocabulary;
      for (let r = 0; r < step.rows; r++)
        rows.push(step.logits.subarray(r * width, (r + 1) * width));
      if (step.boundary !== null) retrieved.set(step.boundary.at, step.boundary.retrieved);
    }
  }
  return { rows, retrieved };
}

function largest(a: Float32Array[], b: Float32Array[]): number {
  expect(a.length).toBe(b.length);
  let most = 0;
  a.forEach((row, i) => {
    row.forEach((value, j) => {
      most = Math.max(most, Math.abs(value - (b[i]?.[j] as number)));
    });
  });
  return most;
}

beforeAll(async () => {
  python = await findPython();
  folder = mkdtempSync(path.join(tmpdir(), 'lockstep-torch-'));
  const model = await tinyModel(path.join(folder, 'model'));
  dir = path.join(folder, 'attached');
  await attach({
    config: {
      policy: sentences(),
      segment: { min: 1, max: S, align: 1 },
      carry: { size: 10, sinks: 4 },
      retrieval: { size: 16, recipe: 'anchors', layers: [1, 3] },
      heads: { long: [1] },
      bos: false,
    },
    modelDir: model,
    out: dir,
  });
  engine = await openTorchEngine(dir, { python, threads: 1, maxSessions: 3, maxTokens: 200 });
});
afterAll(async () => {
  await engine?.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('the torch engine', () => {
  it('says what it is', () => {
    expect(engine.info).toMatchObject({
      name: 'torch',
      precision: 'float32',
      layers: 4,
      kvHeads: 2,
      queryHeads: 4,
      headDim: 8,
    });
    expect(engine.contract.segment.max).toBe(S);
  });

  it('equals the trainer, whatever the steps and however sessions interleave', async () => {
    const job = `
import json, sys, torch
torch.set_num_threads(1)
from lockstep import load
model = load(sys.argv[1])
ids, boundaries = json.loads(sys.argv[2]), json.loads(sys.argv[3])
trace = model.trace(ids, boundaries)
print(json.dumps({
  "logits": model.logits(ids, boundaries).tolist(),
  "retrieved": [[b.at, [[layer, p.tolist()] for layer, p in sorted(b.positions.items())]] for b in trace.boundaries],
}))`;
    const printed = execFileSync(
      python.executable,
      ['-c', job, dir, JSON.stringify(ids), JSON.stringify(boundaries)],
      { env: pythonEnvironment(), maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'ignore'] },
    );
    const trainer = JSON.parse(String(printed)) as {
      logits: number[][];
      retrieved: [number, [number, number[][]][]][];
    };
    const expected = trainer.logits.map((row) => Float32Array.from(row));
    const one = await engine.open();
    const two = await engine.open();
    const [slow, fast] = await Promise.all([feed(one, 1), feed(two, S)]);
    expect(largest(slow.rows, expected)).toBeLessThan(2e-5);
    expect(largest(fast.rows, expected)).toBeLessThan(2e-5);
    expect(
      largest(
        fast.rows,
        expected.map((row) => row.map((value) => value + 1)),
      ),
    ).toBeGreaterThan(0.9);
    for (const [at, layers] of trainer.retrieved) {
      const theirs = layers.map(([layer, positions]) => ({
        layer,
        positions: positions.map((list) => Int32Array.from(list)),
      }));
      expect(fast.retrieved.get(at)).toEqual(theirs);
    }
    expect([...fast.retrieved.keys()]).toEqual(boundaries);
    await Promise.all([one.close(), two.close()]);
  });

  it('returns no row, one row, or all, in copies of their own', async () => {
    const session = await engine.open();
    const none = await session.step(ids.slice(0, 5), { rows: 'none', close: false });
    expect([none.rows, none.logits.length]).toEqual([0, 0]);
    const last = await session.step(ids.slice(5, 8), { rows: 'last', close: false });
    const kept = Float32Array.from(last.logits);
    expect([last.rows, last.logits.length]).toEqual([1, engine.info.vocabulary]);
    await session.step(ids.slice(8, 10), { rows: 'all', close: false });
    expect(last.logits).toEqual(kept);
    await session.close();
  });

  it('continues with other positions when told to, and only at a fresh boundary', async () => {
    const sessions = [await engine.open(), await engine.open()];
    const stepped = await Promise.all(
      sessions.map((one) => one.step(ids.slice(0, S), { rows: 'none', close: true })),
    );
    const swap = (stepped[0]?.boundary?.retrieved ?? []).map(({ layer, positions }) => ({
      layer,
      positions: positions.map((list) => list.map((_, i) => i)),
    }));
    await sessions[0]?.replaceRetrieved(swap);
    const [other, own] = await Promise.all(
      sessions.map((one) => one.step(ids.slice(S, S + 3), { rows: 'last', close: false })),
    );
    expect(other?.logits).not.toEqual(own?.logits);
    const late = await failure((sessions[0] as EngineSession).replaceRetrieved(swap));
    expect(late.code).toBe('LS_STATE_OPEN');
    await Promise.all(sessions.map((one) => one.close()));
  });

  it('reports its memory: flat but for the pool', async () => {
    const session = await engine.open();
    const at: number[] = [];
    for (const end of [S, 2 * S, 3 * S, 4 * S]) {
      await session.step(ids.slice(end - S, end), { rows: 'none', close: true });
      const memory = await session.memory();
      const { total, fullAttention, ...parts } = memory;
      expect(total).toBe(Object.values(parts).reduce((sum, part) => sum + part, 0));
      expect(fullAttention).toBe(2 * 4 * 2 * 8 * 4 * end);
      at.push(total - memory.pool);
    }
    expect(at[3]).toBe(at[2]);
    await session.close();
  });

  it('bounds sessions, tokens and ids, and frees what is closed', async () => {
    const opened = await Promise.all([engine.open(), engine.open(), engine.open()]);
    expect(engine.sessions).toBe(3);
    expect(await failure(engine.open())).toMatchObject({ code: 'LS_ENGINE_SESSIONS' });
    await Promise.all(opened.map((one) => one.close()));
    expect(engine.sessions).toBe(0);
    const session = await engine.open();
    expect(
      await failure(session.step([engine.info.vocabulary], { rows: 'last', close: false })),
    ).toMatchObject({ code: 'LS_ENGINE_TOKEN' });
    expect(await failure(session.step([1.5], { rows: 'last', close: false }))).toMatchObject({
      code: 'LS_ENGINE_TOKEN',
    });
    expect(
      await failure(session.step(Array(201).fill(5), { rows: 'last', close: false })),
    ).toMatchObject({ code: 'LS_ENGINE_LIMIT' });
    // Refused input has changed nothing.
    expect((await session.step([5], { rows: 'last', close: false })).rows).toBe(1);
    await session.close();
    await session.close();
    expect(await failure(session.step([5], { rows: 'last', close: false }))).toMatchObject({
      code: 'LS_ENGINE_SESSION',
    });
  });

  it('makes a session unusable whose step failed, and leaves the others alone', async () => {
    const [bad, good] = [await engine.open(), await engine.open()];
    expect(
      await failure(bad.step(Array(S + 1).fill(5), { rows: 'last', close: false })),
    ).toMatchObject({ code: 'LS_STATE_LENGTH' });
    expect(await failure(bad.step([5], { rows: 'last', close: false }))).toMatchObject({
      code: 'LS_ENGINE_SESSION',
    });
    expect((await good.step([5], { rows: 'last', close: false })).rows).toBe(1);
    await Promise.all([bad.close(), good.close()]);
    expect(engine.sessions).toBe(0);
  });

  it('notices a Python killed in a call, and opens again', async () => {
    const doomed = await openTorchEngine(dir, { python, threads: 1 });
    const session = await doomed.open();
    const steps = [1, 2, 3].map((id) =>
      failure(session.step([id], { rows: 'last', close: false })),
    );
    const { pid } = (doomed as unknown as { python: { pid: number } }).python;
    process.kill(pid, 'SIGKILL');
    for (const step of steps) {
      expect(['LS_PYTHON_DIED', 'LS_ENGINE_SESSION']).toContain((await step).code);
    }
    expect((await failure(doomed.open())).code).toBe('LS_PYTHON_DIED');
    expect((await doomed.lost)?.code).toBe('LS_PYTHON_DIED');
    await session.close();
    await doomed.close();
    const again = await openTorchEngine(dir, { python, threads: 1 });
    const fresh = await again.open();
    expect((await fresh.step([5], { rows: 'last', close: false })).rows).toBe(1);
    await again.close();
    // Closed is not lost.
    expect(await Promise.race([again.lost, 'open'])).toBe('open');
  });

  it.runIf(process.platform === 'linux')('leaves nothing behind in shared memory', () => {
    // The running engine's file is open but has no name any more.
    const open = readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/self/fd/${fd}`)];
      } catch {
        return [];
      }
    });
    expect(
      open.filter((file) => file.includes('lockstep-logits-') && file.endsWith('(deleted)')),
    ).toHaveLength(1);
  });

  it('refuses a checkpoint that is not what its contract says', async () => {
    expect(await failure(openTorchEngine(folder, { python }))).toMatchObject({
      code: 'LS_CONTRACT_MISSING',
    });
  });
});
