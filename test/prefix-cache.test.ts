// The prefix cache of the embedded engines changes no number: with it and without it, to the bit.
import { rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { attach, type ContractFiles, readContract } from '../src/checkpoint/index.ts';
import type { Engine } from '../src/engines/engine.ts';
import { openOnnxEngine } from '../src/engines/onnx.ts';
import { PrefixCache, PrefixHash } from '../src/engines/prefix-cache.ts';
import type { Runner, RunRequest } from '../src/engines/runner.ts';
import { steppedRunner } from '../src/engines/stepped.ts';
import { openTorchEngine } from '../src/engines/torch.ts';
import { delimiters } from '../src/policies/index.ts';
import { loadTokenizer, type Tokenizer } from '../src/tokenizer/tokenizer.ts';
import { type TinyCase, TinyCheckpoints } from './onnx-checkpoints.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 600_000 });

const shape = { head_dim: 16, hidden: 32, tied: true };
const model: TinyCase = {
  name: 'tiny',
  architecture: 'llama',
  model: shape,
  segment: 16,
  carry: { size: 6, sinks: 4 },
  retrieval: { size: 16, recipe: 'anchors', layers: [1, 2] },
  heads: [1],
  tokens: [],
  boundaries: [],
};
/** Where a sequence is cut: after short segments, or so late that turns end in open ones. */
const contracts = {
  short: {
    segment: { min: 4, max: 24, align: 1 },
    carry: { size: 6, sinks: 4 },
    retrieval: { size: 16, recipe: 'anchors' as const, layers: [1, 2] },
  },
  long: {
    segment: { min: 200, max: 420, align: 1 },
    carry: { size: 40, sinks: 4, heads: 'all' as const },
    retrieval: {
      size: 32,
      recipe: 'blocks' as const,
      layers: [0, 2],
      block: 8,
      distance: 16,
      window: 16,
    },
  },
};
type Name = keyof typeof contracts;

let folder: string;
let tokenizer: Tokenizer;
const dirs = {} as Record<Name, string>;
const files = {} as Record<Name, ContractFiles>;

beforeAll(async () => {
  folder = temporaryFolder('prefix-cache');
  const made = await TinyCheckpoints.make(folder, [model]);
  for (const name of Object.keys(contracts) as Name[]) {
    dirs[name] = path.join(folder, name);
    await attach({
      config: {
        ...contracts[name],
        policy: delimiters({ strings: ['.', 'e', '?'] }),
        heads: { long: [1] },
        bos: false,
      },
      modelDir: made.modelDir(model),
      out: dirs[name],
    });
    files[name] = await readContract(dirs[name]);
  }
  await made.export((Object.keys(contracts) as Name[]).map((name) => ({ ...model, name })));
  made.finish();
  tokenizer = await loadTokenizer(dirs.short);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const open = {
  onnx: (name: Name): Promise<Engine> => openOnnxEngine(dirs[name], { threads: 1 }),
  torch: (name: Name): Promise<Engine> => openTorchEngine(dirs[name], { threads: 1 }),
};

/** Numbers that repeat themselves. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
}

function request(prompt: readonly number[], more: Partial<RunRequest> = {}): RunRequest {
  return {
    prompt,
    maxTokens: 4,
    temperature: 1,
    seed: 11,
    stop: [],
    logprobs: 20,
    traced: false,
    streamed: false,
    expectsNextTurn: true,
    extra: { ignore_eos: true },
    ...more,
  };
}

/** All that a client can see of a run but how much of it was cached. */
async function seen(runner: Runner, asked: RunRequest, signal = new AbortController().signal) {
  const run = await runner.run(asked, signal);
  const tokens: unknown[] = [];
  const ids: number[] = [];
  const cuts: unknown[] = [];
  let cached = 0;
  let ran = 0;
  for await (const event of run.events) {
    if (event.type === 'token') {
      ids.push(event.id);
      tokens.push([event.choice, event.id, event.logprob, event.top]);
    } else if (event.type === 'ran') {
      if (event.prompt) ran += event.tokens.length;
      if (event.cached) cached += event.tokens.length;
      if (event.boundary !== null) {
        const { at, retrieved } = event.boundary;
        cuts.push([at, retrieved?.map((one) => [one.layer, one.positions.map((p) => [...p])])]);
      }
    }
  }
  return { shown: { tokens, cuts, ran }, ids, cached };
}

describe.each(['onnx', 'torch'] as const)('%s', (kind) => {
  it.each(['short', 'long'] as const)(
    'continues from what is cached (%s segments)',
    async (name) => {
      const [one, two] = [await open[kind](name), await open[kind](name)];
      const plain = steppedRunner(one, tokenizer, files[name]);
      const caching = steppedRunner(two, tokenizer, files[name], { cacheBytes: 1 << 28 });
      const draw = random(5);
      let prompt = Array.from({ length: 500 }, () => 3 + draw(256));
      // A step costs torch a call of Python; the rule is the same.
      const maxTokens = kind === 'onnx' ? 150 : 20;
      for (let turn = 0; turn < 4; turn++) {
        const asked = request(prompt, { maxTokens, seed: turn });
        const expected = await seen(plain, asked);
        const got = await seen(caching, asked);
        expect(got.shown).toEqual(expected.shown);
        expect(expected.cached).toBe(0);
        // All but the new text, and what the last step of the turn before did not fill.
        const known = turn === 0 ? 0 : prompt.length - 50;
        expect(got.cached).toBeGreaterThan(known - 128);
        expect(got.cached).toBeLessThan(prompt.length);
        prompt = [...prompt, ...got.ids, ...Array.from({ length: 50 }, () => 3 + draw(256))];
      }
      // Scores of a prompt are of all its tokens: nothing is skipped.
      expect((await seen(caching, request(prompt, { scored: true }))).cached).toBe(0);
      expect(caching.prefixCache).toMatchObject({ hits: 3, misses: 1, evictions: 0 });
      await Promise.all([plain.close(), caching.close()]);
    },
  );

  it('gives a long prompt and the answers beside it the numbers that each has alone', async () => {
    const engine = await open[kind]('long');
    const runner = steppedRunner(engine, tokenizer, files.long);
    const draw = random(19);
    const text = (length: number) => Array.from({ length }, () => 3 + draw(256));
    const long = request(text(1500), { maxTokens: 2, seed: 1 });
    const answers = [2, 3].map((seed) => request(text(30), { maxTokens: 60, seed }));
    const alone: unknown[] = [];
    for (const one of [long, ...answers]) alone.push((await seen(runner, one)).shown);
    // The answers have begun when the prompt comes.
    const beside = answers.map((one) => seen(runner, one));
    await expect.poll(() => engine.sessions).toBe(answers.length);
    beside.unshift(seen(runner, long));
    expect((await Promise.all(beside)).map(({ shown }) => shown)).toEqual(alone);
    await runner.close();
  });

  it('gives the same numbers under forks, evictions, other requests and clients that leave', async () => {
    const limit = kind === 'onnx' ? 250_000 : 150_000;
    const [one, two] = [await open[kind]('short'), await open[kind]('short')];
    const plain = steppedRunner(one, tokenizer, files.short);
    const caching = steppedRunner(two, tokenizer, files.short, { cacheBytes: limit });
    const draw = random(77);
    const text = (most: number) => Array.from({ length: 1 + draw(most) }, () => 3 + draw(256));
    /** Every prompt that was asked so far, with its answer. */
    const past: number[][] = [text(100)];
    for (let round = 0; round < 6; round++) {
      await Promise.all(
        [0, 1, 2].map(async () => {
          const before = past[draw(past.length)] as number[];
          // From an earlier turn on, from within one, or quite another text.
          const shared = [before, before.slice(0, 1 + draw(before.length)), []][draw(3)];
          const prompt = [...(shared as number[]), ...text(60)];
          const extra = { ignore_eos: true, ...(draw(4) === 0 ? { n: 2 } : {}) };
          const asked = request(prompt, {
            seed: draw(1000),
            expectsNextTurn: draw(2) === 0,
            extra,
          });
          const leave = new AbortController();
          if (draw(4) === 0) {
            setTimeout(() => leave.abort(), draw(30));
            await seen(caching, asked, leave.signal).catch(() => {});
            return;
          }
          const got = await seen(caching, asked, leave.signal);
          expect(got.shown).toEqual((await seen(plain, asked)).shown);
          past.push([...prompt, ...got.ids]);
          expect(caching.prefixCache?.bytes).toBeLessThanOrEqual(limit + 200_000);
        }),
      );
    }
    await expect.poll(() => two.sessions, { timeout: 20_000 }).toBe(0);
    expect(caching.prefixCache?.bytes).toBeLessThanOrEqual(limit);
    expect(caching.prefixCache?.evictions).toBeGreaterThan(0);
    // What was used last is still there.
    const asked = request(past.at(-1) as number[]);
    const expected = (await seen(plain, asked)).shown;
    for (const again of [false, true]) {
      const got = await seen(caching, asked);
      expect(got.shown).toEqual(expected);
      if (again) expect(got.cached).toBeGreaterThan(0);
    }
    await Promise.all([plain.close(), caching.close()]);
    expect(two.snapshotBytes).toBe(0);
  });

  it('counts the bytes of what it holds, once each, and frees them', async () => {
    const engine = await open[kind]('short');
    const cache = new PrefixCache(engine, 1 << 30);
    const session = await engine.open();
    const path = new PrefixHash();
    const draw = random(3);
    const totals: number[] = [];
    const tokens = Int32Array.from({ length: 400 }, () => 3 + draw(256));
    for (let at = 0; at < tokens.length; at += 20) {
      const piece = tokens.subarray(at, at + 20);
      await session.step(piece, { rows: 'none', close: true });
      path.push(piece);
      if (at < 300) continue;
      const before = cache.bytes;
      await cache.store(session, path, null);
      const found = cache.find(tokens, path.length);
      expect(found?.length).toBe(path.length);
      const again = await found?.open();
      const total = (await again?.memory())?.total ?? 0;
      await again?.close();
      totals.push(total);
      if (before === 0) expect(cache.bytes).toBe(total);
    }
    expect(cache.states).toBe(5);
    expect(cache.bytes).toBeLessThan(totals.reduce((sum, one) => sum + one, 0));
    await session.close();
    expect(cache.find(tokens, 399)?.length).toBe(380);
    expect(
      cache.find(
        tokens.map((id) => id + 1),
        399,
      ),
    ).toBeNull();
    await cache.close();
    expect([cache.bytes, cache.states, engine.sessions]).toEqual([0, 0, 0]);
    await engine.close();
  });
});
