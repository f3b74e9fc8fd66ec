// The page's arithmetic against brute force from SEMANTICS.md 2, and against an engine's own count.
import { expect, test } from 'vitest';
import { KV_HEADS, LAYERS, makeToy, ToyEngine } from './server-toy.ts';

// biome-ignore lint/suspicious/noExplicitAny: the page is JavaScript
const model: any = await import(new URL('../src/server/page/model.js', import.meta.url).href);

const contract = (size: number, sinks: number, rows: number, heads = 'local') => ({
  carry: { size, sinks, heads },
  retrieval: { size: rows, layers: [1, 2] },
  heads: { long: [[1], [1], [1], [1]] },
  model: { layers: LAYERS, kvHeads: KV_HEADS, headDim: 16, elementBytes: 4 },
});

test.each([
  [24, 4, 8, 'local'],
  [0, 4, 8, 'local'],
  [200, 0, 300, 'local'],
  [10, 40, 0, 'local'],
  [24, 4, 8, 'all'],
  [50, 3, 60, 'all'],
])('M %i, A %i, R %i, %s heads carry: pairs are what all queries see', (size, sinks, rows, by) => {
  const facts = contract(size, sinks, rows, by);
  const segments = model.segmentsOf([16, 30, 31, 90, 128], 150);
  const pairs = { local: 0, long: 0, window: 0, full: 0 };
  for (let t = 0; t < 150; t++) {
    const segment = model.segmentAt(segments, t);
    expect(t).toBeGreaterThanOrEqual(segment.start);
    expect(t).toBeLessThan(segment.end);
    const s = segment.start;
    let own = 0;
    let sink = 0;
    let carry = 0;
    for (let key = 0; key <= t; key++) {
      if (key >= s) own += 1;
      else if (key < sinks) sink += 1;
      else if (key >= s - size) carry += 1;
    }
    pairs.local += own + sink + carry;
    const far = by === 'all' ? carry : 0;
    pairs.window += own + sink + far;
    pairs.long += own + sink + far + Math.min(rows, Math.max(0, s - sinks - far));
    pairs.full += t + 1;
    const window = model.viewOf(t, segment, facts, { kind: 'window' }, () => []);
    expect(model.sizeOf(window.carry)).toBe(far);
    const view = model.viewOf(t, segment, facts, { kind: 'local' }, () => []);
    expect(model.sizeOf(view.own)).toBe(own);
    expect(model.sizeOf(view.sinks)).toBe(sink);
    expect(model.sizeOf(view.carry)).toBe(carry);
  }
  expect(model.pairsOf(segments, facts)).toEqual(pairs);
  const heads = { local: 4, long: 2, window: 2 };
  const share =
    (pairs.local * heads.local + pairs.long * heads.long + pairs.window * heads.window) /
    (8 * pairs.full);
  expect(model.workShare(segments, facts)).toBeCloseTo(share, 12);
});

test('memory from the contract is what a session counts', async () => {
  const toy = await makeToy();
  const session = await new ToyEngine(toy).open();
  const facts = { ...toy.files.contract, model: contract(0, 0, 0).model };
  let start = 0;
  let position = 0;
  for (const length of [16, 40, 2, 64, 7]) {
    const close = length > 10;
    await session.step(new Int32Array(length), { rows: 'none', close });
    position += length;
    if (close) start = position;
    expect(model.memoryAt(position, start, facts)).toEqual(await session.memory());
  }
});

test('bytes and numbers are short', () => {
  expect([0, 999, 1000, 12_345, 123_456_789].map(model.bytes)).toEqual([
    '0 B',
    '999 B',
    '1.00 KB',
    '12.3 KB',
    '123 MB',
  ]);
  expect(model.number(1_234_567)).toBe('1\u202f234\u202f567');
});
