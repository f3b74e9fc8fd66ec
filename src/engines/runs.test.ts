// Runs that are given up before anybody has asked for their first event.
import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeToy, type Toy, ToyEngine } from '../../test/server-toy.ts';
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
