// Runs that are given up, or that fail, free their sessions.
import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { makeToy, type Toy, ToyEngine } from '../../test/server-toy.ts';
import { LockstepError } from '../errors.ts';
import { Segmenter } from '../planner/index.ts';
import { runMany } from './many.ts';
import type { RunRequest } from './runner.ts';
import { steppedRunner } from './stepped.ts';

let toy: Toy;
beforeAll(async () => {
  toy = await makeToy(null);
});
afterAll(() => rm(toy.dir, { recursive: true, force: true }));

const request: RunRequest = {
  prompt: [97, 98, 99],
  maxTokens: 4,
  temperature: 0,
  topP: 1,
  stop: [],
  logprobs: null,
  traced: false,
  streamed: true,
};
const { signal } = new AbortController();

describe.each([
  ['one run', [request]],
  ['several runs', [request, request, request]],
])('%s', (_, requests) => {
  const begin = async () => {
    const engine = new ToyEngine(toy);
    const run = await runMany(steppedRunner(engine, toy.tokenizer, toy.files), requests, signal);
    expect(engine.sessions).toBe(1);
    return { engine, run };
  };

  it('frees its session though its events never began', async () => {
    const { engine, run } = await begin();
    await run.close();
    expect(engine.sessions).toBe(0);
    await run.close();
    expect(await run.events.next()).toEqual({ done: true, value: undefined });
  });

  it('frees its session in the middle, and after its end', async () => {
    const { engine, run } = await begin();
    await run.events.next();
    await run.close();
    expect(engine.sessions).toBe(0);
    const other = await begin();
    for await (const _ of other.run.events);
    expect(other.engine.sessions).toBe(0);
    await other.run.close();
  });
});

describe('several texts after one prompt', () => {
  const several: RunRequest = { ...request, extra: { n: 2 } };
  const failure = async (engine: ToyEngine): Promise<unknown> => {
    const run = await steppedRunner(engine, toy.tokenizer, toy.files).run(several, signal);
    try {
      for await (const _ of run.events);
    } catch (error) {
      return error;
    }
    return null;
  };

  it('leave no session where the policy cannot be forked', async () => {
    const engine = new ToyEngine(toy);
    const refusal = new LockstepError('LS_POLICY_STATE', 'expected state to be JSON, got a Map');
    const fork = vi.spyOn(Segmenter.prototype, 'fork').mockImplementation(() => {
      throw refusal;
    });
    expect(await failure(engine)).toBe(refusal);
    fork.mockRestore();
    expect(engine.sessions).toBe(0);
  });

  it('leave no segmenter where the session cannot be forked', async () => {
    const engine = new ToyEngine(toy, { maxSessions: 1 });
    const fork = vi.spyOn(Segmenter.prototype, 'fork');
    const close = vi.spyOn(Segmenter.prototype, 'close');
    expect(await failure(engine)).toMatchObject({ code: 'LS_ENGINE_SESSIONS' });
    const made = fork.mock.results.map((result) => result.value);
    expect(made).toHaveLength(1);
    expect(close.mock.contexts).toContain(made[0]);
    fork.mockRestore();
    close.mockRestore();
    expect(engine.sessions).toBe(0);
  });
});
