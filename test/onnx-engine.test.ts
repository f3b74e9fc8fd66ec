// The onnx engine as a service: many sessions, limits, memory, precisions.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readContract } from '../src/checkpoint/index.ts';
import { generate } from '../src/engines/generate.ts';
import { type OnnxEngine, openOnnxEngine } from '../src/engines/onnx.ts';
import { Sequence } from '../src/engines/sequence.ts';
import { Segmenter } from '../src/planner/index.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import { failure } from './helpers/failure.ts';
import { largestDifference, runCase } from './onnx-checkpoints.ts';
import { one, S, step, tokensOf, useExported, vocabulary } from './onnx-engine-fixture.ts';

const exported = useExported(['fp32', 'int8', 'int4']);
let engine: OnnxEngine;

beforeAll(async () => {
  engine = await openOnnxEngine(exported.dir, {
    threads: 1,
    maxSessions: 8,
    maxTokens: 100,
    pieceTokens: 5,
  });
});
afterAll(() => engine?.close());

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
    const fine = await openOnnxEngine(exported.dir, { threads: 1, pieceTokens: 1 });
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
    const files = await readContract(exported.dir);
    const tokenizer = await loadTokenizer(exported.dir);
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
    const quantized = await openOnnxEngine(exported.dir, { precision, threads: 1 });
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
