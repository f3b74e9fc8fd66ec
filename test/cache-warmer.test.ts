// The warmer of the prefix cache: what it does to the event loop before the engine has anything to do.
import { rm } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { CacheWarmer } from '../src/engines/cache-warmer.ts';
import type { PrefixCache } from '../src/engines/prefix-cache.ts';
import { Segmenter } from '../src/planner/index.ts';
import { makeToy, type Toy, ToyEngine } from './server-toy.ts';

let toy: Toy;
beforeAll(async () => {
  toy = await makeToy(null);
});
afterEach(() => vi.restoreAllMocks());
afterAll(() => rm(toy.dir, { recursive: true, force: true }));

const nothing = { find: () => null } as unknown as PrefixCache;
const turn = new Int32Array(5000).fill(97);

/** Tokens that each call of the policy was given. */
function pushes(): number[] {
  const sizes: number[] = [];
  const { pushMany } = Segmenter.prototype;
  vi.spyOn(Segmenter.prototype, 'pushMany').mockImplementation(function (this: Segmenter, tokens) {
    sizes.push(tokens.length);
    return pushMany.call(this, tokens);
  });
  return sizes;
}

test('a long turn is planned in pieces', async () => {
  const sizes = pushes();
  const engine = new ToyEngine(toy);
  const opened = new Promise<void>((resolve) => {
    engine.open = async () => {
      resolve();
      throw new Error('that is enough');
    };
  });
  new CacheWarmer(engine, toy.files, nothing).warm(turn);
  await opened;
  expect(sizes).toEqual([2048, 2048, 904]);
});

test('its planning is left when it is closed', async () => {
  const sizes = pushes();
  const warmer = new CacheWarmer(new ToyEngine(toy), toy.files, nothing);
  warmer.warm(turn);
  await warmer.close();
  expect(sizes).toEqual([2048]);
});
