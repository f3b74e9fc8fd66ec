// Streams of vLLM that were cut, doubled, reordered, slowed down, mixed up or garbled on their way: an
// answer is called complete only where it is what vLLM generated. 10,000 in `npm test`, a million in
// `npm run test:slow` (LOCKSTEP_STREAMS=COUNT; LOCKSTEP_STREAMS_SEED=N begins elsewhere).
import { describe, expect, test } from 'vitest';
import { tell } from '../helpers/tell.ts';
import { fakeVllms } from '../vllm-fixture.ts';
import { askMany, kindNames } from './client.ts';
import { faultNames, faultyStream } from './faults.ts';
import { judge, judgeMany } from './judge.ts';
import { faultyUpstream } from './upstream.ts';

const count = Number(process.env['LOCKSTEP_STREAMS'] ?? 10_000);
const first = Number(process.env['LOCKSTEP_STREAMS_SEED'] ?? 1);
const vllm = fakeVllms();
/** What the server waits for a silent vLLM, milliseconds. */
const STALL_MS = 800;

describe('faulty streams', () => {
  test(`${count} of them: no false completion`, { timeout: 60_000 + 20 * count }, async () => {
    const tally = await judgeMany(first, count, (done) => {
      if (count > 100_000) process.stderr.write(`${done} streams\n`);
    });
    tell({ search: 'streams', count, seed: first, ...tally });
    expect(tally.bad).toEqual([]);
    expect(tally.verdicts).toMatchObject({ false: 0, lost: 0, crash: 0 });
    // Each fault was made, and each kind spoiled some streams.
    expect(Object.keys(tally.faults).sort()).toEqual([...faultNames].sort());
    expect(tally.verdicts.refused).toBeGreaterThan(count / 3);
    expect(tally.verdicts.complete).toBeGreaterThan(count / 10);
  });

  test('the judge finds a false completion, and a good stream that is refused', async () => {
    const streams = Array.from({ length: 400 }, (_, seed) => faultyStream(seed));
    const of = (fault: string) => {
      const found = streams.find((stream) => stream.fault === fault);
      if (found === undefined) throw new Error(`expected a stream with ${fault}, got none`);
      return found;
    };
    const good = of('none');
    expect(await judge(good)).toBe('complete');
    const tokens = [...good.original.tokens, 97];
    expect(await judge({ ...good, original: { ...good.original, tokens } })).toBe('false');
    const doubled = of('double-event');
    expect(await judge({ ...doubled, harmless: false })).toBe('refused');
    expect(await judge({ ...doubled, harmless: true })).toBe('lost');
  });

  test('over real sockets: whole answers and errors, nothing else', {
    timeout: 300_000,
  }, async () => {
    const upstream = await faultyUpstream(vllm.toy.files.contract.digest, STALL_MS);
    try {
      const { url } = await vllm.opened.relay([upstream.url], {}, { stallMs: STALL_MS });
      const tally = await askMany(url, first, 240, { kinds: kindNames, paced: true });
      tell({ search: 'streams over sockets', count: 240, seed: first, ...tally });
      expect(tally.bad).toEqual([]);
      expect(tally.seen).toMatchObject({ false: 0, other: 0, cut: 0, lost: 0 });
      expect(tally.seen.complete).toBeGreaterThan(30);
      expect(tally.seen.error).toBeGreaterThan(100);
      // Silence was found, and every kind of answer came through where nothing was wrong.
      expect(tally.codes['LS_VLLM_STALLED']).toBeGreaterThan(5);
      expect(Math.min(...Object.values(tally.complete))).toBeGreaterThan(0);
    } finally {
      await vllm.opened.close();
      await upstream.close();
    }
  });
});
