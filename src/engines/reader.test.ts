import { getEventListeners } from 'node:events';
import { rm } from 'node:fs/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { makeToy, type Toy, ToyEngine } from '../../test/server-toy.ts';
import { PrefixMemory } from './memory.ts';
import { AnswerReader } from './reader.ts';

let toy: Toy;
afterEach(() => rm(toy.dir, { recursive: true, force: true }));

const turn = Int32Array.from({ length: 256 }, (_, i) => 97 + ((i * 7) % 26));
const next = Int32Array.from([...turn, 97, 98]);

async function readerOf(delayMs: number) {
  toy = await makeToy(null);
  const engine = new ToyEngine(toy, { delayMs });
  const memory = new PrefixMemory(engine, 1e9);
  return { engine, reader: new AnswerReader(engine, toy.files, memory) };
}

describe('AnswerReader.makeWay', () => {
  it('leaves nothing at the signal of whoever waited: a server has one that outlives all requests', async () => {
    const { reader } = await readerOf(1);
    const { signal } = new AbortController();
    for (let i = 0; i < 3; i++) {
      reader.read(turn);
      await reader.makeWay(next, signal);
    }
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    await reader.close();
  });

  it('does not wait for a request that is gone', async () => {
    const { reader, engine } = await readerOf(300);
    reader.read(turn);
    await reader.makeWay(next, AbortSignal.abort());
    expect(engine.steps).toBeLessThan(2);
    await reader.close();
  });
});
