import { getEventListeners } from 'node:events';
import { rm } from 'node:fs/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { makeToy, type Toy, ToyEngine } from '../../test/server-toy.ts';
import { CacheWarmer } from './cache-warmer.ts';
import { PrefixCache } from './prefix-cache.ts';

let toy: Toy;
afterEach(() => rm(toy.dir, { recursive: true, force: true }));

const turn = Int32Array.from({ length: 256 }, (_, i) => 97 + ((i * 7) % 26));
const next = Int32Array.from([...turn, 97, 98]);

async function warmerOf(delayMs: number) {
  toy = await makeToy(null);
  const engine = new ToyEngine(toy, { delayMs });
  const cache = new PrefixCache(engine, 1e9);
  return { engine, warmer: new CacheWarmer(engine, toy.files, cache) };
}

describe('CacheWarmer.yieldTo', () => {
  it('leaves nothing at the signal of whoever waited: a server has one that outlives all requests', async () => {
    const { warmer } = await warmerOf(1);
    const { signal } = new AbortController();
    for (let i = 0; i < 3; i++) {
      warmer.warm(turn);
      await warmer.yieldTo(next, signal);
    }
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    await warmer.close();
  });

  it('does not wait for a request that is gone', async () => {
    const { warmer, engine } = await warmerOf(300);
    warmer.warm(turn);
    await warmer.yieldTo(next, AbortSignal.abort());
    expect(engine.steps).toBeLessThan(2);
    await warmer.close();
  });
});
