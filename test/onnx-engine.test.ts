// The onnx engine as a service: many sessions, limits, memory, faults.
import { spawnSync } from 'node:child_process';
import { appendFileSync, cpSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { readContract, writeContract, writeContractFiles } from '../src/checkpoint/index.ts';
import { sha256 } from '../src/contract/index.ts';
import type { EngineSession } from '../src/engines/engine.ts';
import { generate } from '../src/engines/generate.ts';
import { sealOf } from '../src/engines/onnx/meta-check.ts';
import { type OnnxEngine, type OnnxSession, openOnnxEngine } from '../src/engines/onnx.ts';
import { Sequence } from '../src/engines/sequence.ts';
import type { LockstepError } from '../src/errors.ts';
import { builtModule } from '../src/paths.ts';
import { Segmenter } from '../src/planner/index.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import { graphWith, model } from './onnx-bytes.ts';
import { largestDifference, runCase, type TinyCase, TinyCheckpoints } from './onnx-checkpoints.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

const vocabulary = 264;
const S = 16;
const tokensOf = (seed: number, length = 90): number[] =>
  Array.from({ length }, (_, i) => (i * i * 7 + seed * 31 + 11 * i) % vocabulary);

const one: TinyCase = {
  name: 'tiny',
  architecture: 'llama',
  model: { head_dim: 16, hidden: 32, tied: true },
  segment: S,
  carry: { size: 6, sinks: 4 },
  retrieval: { size: 16, recipe: 'anchors', layers: [1, 2] },
  heads: [1],
  tokens: tokensOf(0),
  boundaries: [16, 20, 36, 52, 68, 84],
};

let folder: string;
let made: TinyCheckpoints;
let dir: string;
let engine: OnnxEngine;

const failure = async (work: Promise<unknown>): Promise<LockstepError> =>
  work.then(
    (value) => {
      throw new Error(`expected a failure, got ${typeof value}`);
    },
    (error) => error as LockstepError,
  );
const step = (session: EngineSession, tokens: number[], close = false) =>
  session.step(tokens, { rows: 'last', close });

beforeAll(async () => {
  folder = temporaryFolder('onnx-engine');
  made = await TinyCheckpoints.make(folder, [one]);
  await made.export([one], ['fp32', 'int8', 'int4']);
  made.finish();
  dir = made.dir(one);
  engine = await openOnnxEngine(dir, {
    threads: 1,
    maxSessions: 8,
    maxTokens: 100,
    pieceTokens: 5,
  });
});
// What a failed test left open must not fail the next.
const opened: OnnxSession[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((session) => session.close()));
});
afterAll(async () => {
  await engine?.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('sessions', () => {
  it('computes the same interleaved as alone', async () => {
    const cases = [0, 1, 2, 3].map((seed) => ({ ...one, tokens: tokensOf(seed) }));
    const alone: Float32Array[] = [];
    for (const each of cases) {
      const session = await engine.open();
      alone.push((await runCase(session, each, S, vocabulary)).logp);
      await session.close();
    }
    const together = await Promise.all(
      cases.map(async (each) => {
        const session = await engine.open();
        const { logp } = await runCase(session, each, S, vocabulary);
        await session.close();
        return logp;
      }),
    );
    together.forEach((logp, i) => {
      expect(largestDifference(logp, alone[i] as Float32Array)).toBe(0);
    });
    expect(engine.sessions).toBe(0);
  });

  it('lets a short step pass a long prompt', async () => {
    const fine = await openOnnxEngine(dir, { threads: 1, pieceTokens: 1 });
    const [long, short] = [await fine.open(), await fine.open()];
    const order: string[] = [];
    const prompt = [0, 1, 2, 3, 4, 5, 6, 7].map((i) =>
      step(long, tokensOf(i, S), true).then(() => order.push('long')),
    );
    const token = step(short, [5]).then(() => order.push('short'));
    await Promise.all([...prompt, token]);
    // Its place depends on when the worker saw it; without turns it would be the last.
    expect(order.indexOf('short')).toBeLessThan(7);
    await fine.close();
  });

  it('runs the calls of one session in order', async () => {
    const session = await engine.open();
    const [first, second, memory] = await Promise.all([
      step(session, tokensOf(1, S), true),
      step(session, [1, 2, 3]),
      session.memory(),
    ]);
    expect(first.boundary?.at).toBe(S);
    expect(second.boundary).toBeNull();
    expect(memory.fullAttention).toBe((S + 3) * 3 * 2 * 16 * 2 * 4);
    await session.close();
  });

  it('forks into sessions that go on independently', async () => {
    const session = await engine.open();
    await step(session, tokensOf(1, S), true);
    await step(session, [1, 2, 3]);
    const fork = await session.fork();
    expect(fork.id).not.toBe(session.id);
    await step(fork, [200, 201, 202, 203], true);
    const own = await step(session, [9, 8]);
    const again = await engine.open();
    await step(again, tokensOf(1, S), true);
    await step(again, [1, 2, 3]);
    expect((await step(again, [9, 8])).logits).toEqual(own.logits);
    await Promise.all([session.close(), fork.close(), again.close()]);
  });

  it('takes replaced retrieval positions once, right after a boundary', async () => {
    const session = await engine.open();
    await step(session, tokensOf(1, S), true);
    const { boundary } = await step(session, tokensOf(2, S), true);
    const retrieved = boundary?.retrieved ?? [];
    expect(retrieved.map(({ layer }) => layer)).toEqual([1, 2]);
    const other = retrieved.map(({ layer, positions }) => ({
      layer,
      positions: positions.map((list) => list.map((_, i) => i)),
    }));
    const fork = await session.fork();
    await fork.replaceRetrieved(other);
    const [a, b] = [await step(session, [5]), await step(fork, [5])];
    expect(largestDifference(a.logits, b.logits)).toBeGreaterThan(1e-6);
    expect(await failure(fork.replaceRetrieved(other))).toMatchObject({ code: 'LS_STATE_OPEN' });
    expect((await step(fork, [6])).rows).toBe(1);
    await Promise.all([session.close(), fork.close()]);
  });

  it('holds bounded memory, except for the pool', async () => {
    const session = await engine.open();
    const rest: number[] = [];
    let pool = 0;
    for (let at = 0; at < 96; at += S) {
      await step(session, tokensOf(at, S), true);
      const memory = await session.memory();
      const { sinks, carry, retrieved, open, total } = memory;
      expect(total).toBe(sinks + carry + memory.pool + retrieved + open);
      rest.push(total - memory.pool);
      pool = memory.pool;
    }
    expect(new Set(rest.slice(3)).size).toBe(1);
    // One long head in two layers, one page of 256 tokens: keys, values, a bound of each key.
    expect(pool).toBe(2 * 256 * (2 * 16 + 1) * 4);
    await session.close();
  });
});

describe('limits', () => {
  it('refuses more sessions than it may hold', async () => {
    const open = await Promise.all(Array.from({ length: 8 }, () => engine.open()));
    expect(await failure(engine.open())).toMatchObject({ code: 'LS_ENGINE_SESSIONS' });
    await Promise.all(open.map((session) => session.close()));
    expect(engine.sessions).toBe(0);
    await (await engine.open()).close();
  });

  it('refuses more tokens than a session may hold, and the session stays usable', async () => {
    const session = await engine.open();
    for (let i = 0; i < 6; i++) await step(session, tokensOf(i, S), true);
    expect(await failure(step(session, [1, 2, 3, 4, 5]))).toMatchObject({
      code: 'LS_ENGINE_LIMIT',
    });
    expect((await step(session, [1, 2, 3, 4])).rows).toBe(1);
    await session.close();
  });

  it.each([[vocabulary], [-1], [1.5], [Number.NaN]])('refuses the token id %s', async (id) => {
    const session = await engine.open();
    expect(await failure(step(session, [3, id]))).toMatchObject({ code: 'LS_ENGINE_TOKEN' });
    expect((await step(session, [3])).rows).toBe(1);
    await session.close();
  });

  it('makes a session unusable whose step failed', async () => {
    const session = await engine.open();
    const long = step(session, tokensOf(0, S + 1));
    expect(await failure(long)).toMatchObject({ code: 'LS_STATE_LENGTH' });
    expect(await failure(step(session, [1]))).toMatchObject({ code: 'LS_ENGINE_SESSION' });
    await session.close();
  });

  it('drops the work of a session that is closed', async () => {
    const [session, other] = [await engine.open(), await engine.open()];
    const dropped = failure(session.step(tokensOf(0, S), { rows: 'all', close: false }));
    await session.close();
    await session.close();
    expect(await dropped).toMatchObject({ code: 'LS_ENGINE_SESSION' });
    expect(await failure(step(session, [1]))).toMatchObject({ code: 'LS_ENGINE_SESSION' });
    expect((await step(other, [1])).rows).toBe(1);
    await other.close();
  });
});

describe('generation', () => {
  it('repeats itself with a seed, across boundaries', async () => {
    const files = await readContract(dir);
    const tokenizer = await loadTokenizer(dir);
    const run = async (seed: number): Promise<{ ids: number[]; cuts: number[] }> => {
      const sequence = new Sequence(await engine.open(), new Segmenter(files));
      const ids: number[] = [];
      const cuts: number[] = [];
      const request = { prompt: tokensOf(0, 20), maxTokens: 40, temperature: 1, topP: 0.9, seed };
      for await (const event of generate(sequence, request, tokenizer.decoder())) {
        if (event.type === 'token') ids.push(event.id);
        if (event.type === 'ran' && event.boundary !== null) cuts.push(event.boundary.at);
      }
      await sequence.close();
      return { ids, cuts };
    };
    const first = await run(7);
    expect(first.ids).toHaveLength(40);
    expect(first.cuts).toEqual([16, 32, 48]);
    expect(await run(7)).toEqual(first);
    expect((await run(8)).ids).not.toEqual(first.ids);
  });
});

describe('precisions', () => {
  it.each(['int8', 'int4'] as const)('runs %s, near fp32 but not equal', async (precision) => {
    const quantized = await openOnnxEngine(dir, { precision, threads: 1 });
    expect(quantized.info.precision).toBe(precision);
    const [a, b] = [await engine.open(), await quantized.open()];
    const exact = (await runCase(a, one, S, vocabulary)).logp;
    const rough = (await runCase(b, one, S, vocabulary)).logp;
    const mean = exact.reduce((sum, x, i) => sum + Math.abs(x - (rough[i] as number)), 0);
    expect(mean / exact.length).toBeLessThan(precision === 'int8' ? 0.2 : 2);
    expect(mean / exact.length).toBeGreaterThan(1e-4);
    await a.close();
    await quantized.close();
  });
});

describe('faults', () => {
  const copy = (name: string): string => {
    const target = path.join(folder, name);
    cpSync(dir, target, { recursive: true });
    return target;
  };
  const code = async (name: string): Promise<string> =>
    (await failure(openOnnxEngine(path.join(folder, name), { threads: 1 }))).code;

  it('refuses a checkpoint without an export', async () => {
    rmSync(path.join(copy('bare'), 'onnx'), { recursive: true });
    expect(await code('bare')).toBe('LS_ENGINE_EXPORT');
  });

  it('refuses files that are not as they were exported', async () => {
    const cut = path.join(copy('cut'), 'onnx/fp32/step.onnx.data');
    writeFileSync(cut, readFileSync(cut).subarray(0, 1000));
    expect(await code('cut')).toBe('LS_ENGINE_CORRUPT');
    appendFileSync(path.join(copy('longer'), 'onnx/fp32/step.onnx'), 'x');
    expect(await code('longer')).toBe('LS_ENGINE_CORRUPT');
    rmSync(path.join(copy('lost'), 'onnx/fp32/step.onnx.data'));
    expect(await code('lost')).toBe('LS_ENGINE_CORRUPT');
    writeFileSync(path.join(copy('meta'), 'onnx/fp32/meta.json'), '{"format": 1}');
    expect(await code('meta')).toBe('LS_ENGINE_CORRUPT');
  });

  it('refuses a graph of another contract', async () => {
    const file = path.join(copy('other'), 'onnx/fp32/meta.json');
    const meta = JSON.parse(readFileSync(file, 'utf8')) as object;
    writeFileSync(file, JSON.stringify({ ...meta, digest: 'f'.repeat(64) }));
    expect(await code('other')).toBe('LS_ENGINE_DIGEST');
  });

  it('refuses a graph older than its weights, and runs one without weights next to it', async () => {
    const dir = copy('trained');
    const file = path.join(dir, 'model.safetensors');
    const bytes = readFileSync(file);
    bytes[bytes.length - 100] = (bytes[bytes.length - 100] as number) ^ 1;
    rmSync(file);
    writeFileSync(file, bytes);
    expect(await code('trained')).toBe('LS_WEIGHTS_IDENTITY');
    const { contract, policySource } = await readContract(dir, { weights: 'ignored' });
    await writeContract(dir, { contract, policySource }); // as a training does at its end
    expect(await code('trained')).toBe('LS_ENGINE_STALE');
    await writeContractFiles(dir, { contract, policySource });
    rmSync(file);
    const alone = await openOnnxEngine(path.join(folder, 'trained'), { threads: 1 });
    await alone.close();
  });

  /** Put other bytes in the graph's place, with a meta.json that fits them. */
  const replaceGraph = (target: string, bytes: Uint8Array): void => {
    writeFileSync(path.join(target, 'onnx/fp32/step.onnx'), bytes);
    const metaFile = path.join(target, 'onnx/fp32/meta.json');
    const meta = JSON.parse(readFileSync(metaFile, 'utf8'));
    meta.files['step.onnx'] = { bytes: bytes.length, sha256: sha256(bytes) };
    writeFileSync(metaFile, JSON.stringify({ ...meta, seal: sealOf(meta) }));
  };

  it('says when onnxruntime cannot load the graph', async () => {
    replaceGraph(copy('broken'), new Uint8Array());
    expect(await code('broken')).toBe('LS_ENGINE_LOAD');
  });

  it('refuses a graph that would read other files, and a file that is no graph', async () => {
    replaceGraph(copy('none'), Buffer.from('no graph'));
    expect(await code('none')).toBe('LS_ENGINE_GRAPH');
    const own = readFileSync(path.join(dir, 'onnx/fp32/step.onnx'));
    // Protobuf messages merge where they stand one after the other: one more initializer.
    for (const [at, location] of ['../../config.json', '/etc/passwd', 'meta.json'].entries()) {
      const more = model({ graph: graphWith(location) });
      replaceGraph(copy(`reads-${at}`), Buffer.concat([own, more]));
      const error = await failure(openOnnxEngine(path.join(folder, `reads-${at}`), { threads: 1 }));
      expect(error).toMatchObject({ code: 'LS_ENGINE_GRAPH' });
      expect(error.message).toContain(JSON.stringify(location));
    }
  });

  it('refuses files that are links out of the folder, and names with a path in them', async () => {
    const target = copy('linked');
    const data = path.join(target, 'onnx/fp32/step.onnx.data');
    rmSync(data);
    symlinkSync(path.join(dir, 'onnx/fp32/step.onnx.data'), data);
    expect(await code('linked')).toBe('LS_CHECKPOINT_LINK');
    const metaFile = path.join(copy('named'), 'onnx/fp32/meta.json');
    const meta = JSON.parse(readFileSync(metaFile, 'utf8'));
    meta.files['../../config.json'] = meta.files['step.onnx'];
    writeFileSync(metaFile, JSON.stringify(meta));
    expect(await code('named')).toBe('LS_ENGINE_CORRUPT');
  });

  it('rejects what waits when the worker dies', async () => {
    // The policy's host is a worker too; the engine's is started after it.
    const workers: Worker[] = [];
    process.on('worker', (started) => workers.push(started));
    const doomed = await openOnnxEngine(dir, { threads: 1, pieceTokens: 1 });
    const session = await doomed.open();
    const steps = [step(session, tokensOf(0, S)), doomed.open(), session.memory()].map((work) =>
      failure(work),
    );
    // What Node says of a worker out of memory; ending one inside onnxruntime would end the process.
    workers.at(-1)?.emit('error', new Error('Worker terminated due to reaching memory limit'));
    for (const each of steps) expect((await each).code).toBe('LS_ENGINE_CRASHED');
    expect(await failure(doomed.open())).toMatchObject({ code: 'LS_ENGINE_CRASHED' });
    await session.close();
    await doomed.close();
  });

  it('close in the middle of a step rejects that step', async () => {
    const closing = await openOnnxEngine(dir, { threads: 1, pieceTokens: 1 });
    const open = await closing.open();
    const dropped = failure(step(open, tokensOf(0, S)));
    await closing.close();
    expect(await dropped).toMatchObject({ code: 'LS_ENGINE_CLOSED' });
    expect(await failure(closing.open())).toMatchObject({ code: 'LS_ENGINE_CLOSED' });
    await closing.close();
  });

  it('neither a run nor an idle engine keeps the process alive', () => {
    const script = (end: string) => `
      import { openOnnxEngine } from ${JSON.stringify(builtModule('engines/onnx.js').href)};
      const engine = await openOnnxEngine(${JSON.stringify(dir)}, { threads: 1 });
      const session = await engine.open();
      const options = { rows: 'all', close: false };
      await session.step([1, 2, 3], options);
      ${end}`;
    const run = (end: string): [number | null, string] => {
      const args = ['--input-type=module', '-e', script(end)];
      const done = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 });
      return [done.status, done.stderr];
    };
    const busy = `
      void session.step([4, 5, 6, 7, 8, 9, 10], options);
      setTimeout(() => process.exit(7), Number(process.pid % 3));`;
    for (let i = 0; i < 3; i++) expect(run(busy)).toEqual([7, '']);
    expect(run('')).toEqual([0, '']);
    // A close waits for the run that it interrupts, also where nothing else keeps the process alive.
    const closed = `
      session.step([4, 5, 6, 7, 8, 9, 10], options).catch(() => {});
      await engine.close();
      process.exit(3);`;
    expect(run(closed)).toEqual([3, '']);
  });
});
