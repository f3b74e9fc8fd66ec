import { describe, expect, test } from 'vitest';
import { prefixKeys, type Routed, Router } from './route.ts';

interface One extends Routed {
  name: string;
  ready: boolean;
  running: number;
}
const replicas = (count: number): One[] =>
  Array.from({ length: count }, (_, i) => ({ name: `http://h:${i}`, ready: true, running: 0 }));
const keyed = (i: number) => prefixKeys(Int32Array.of(i, i + 1, 2 * i), [2]);
const ids = Int32Array.from({ length: 50 }, (_, i) => (i * 31) % 97);

describe('prefixes', () => {
  test('share a key exactly where they share the tokens of whole segments', () => {
    const longer = Int32Array.from([...ids, 5, 6, 7]);
    const other = Int32Array.from(ids);
    other[25] = 1;
    const [a, b, c] = [
      prefixKeys(ids, [10, 20, 40]),
      prefixKeys(longer, [10, 20, 40, 52]),
      prefixKeys(other, [10, 20, 40]),
    ];
    expect(b.slice(0, 3)).toEqual(a);
    expect(c.slice(0, 2)).toEqual(a.slice(0, 2));
    expect(c[2]).not.toBe(a[2]);
    expect(prefixKeys(longer.subarray(0, 50), [10, 20, 40])).toEqual(a);
  });

  test('a prompt within its first segment is its own', () => {
    expect(prefixKeys(ids, [])).toHaveLength(1);
    expect(prefixKeys(ids, [])).not.toEqual(prefixKeys(ids.subarray(1), []));
  });
});

describe('routing', () => {
  test('the longest known prefix decides', () => {
    const all = replicas(4);
    const router = new Router(all);
    const keys = prefixKeys(ids, [10, 20, 40]);
    const [first, second] = [all[2] as One, all[3] as One];
    router.took(keys.slice(0, 1), first);
    expect(router.order(keys)[0]).toBe(first);
    router.took(keys.slice(0, 2), second);
    expect(router.order(keys)[0]).toBe(second);
    router.forget(second);
    expect(router.order(keys)).toHaveLength(4);
    second.ready = false;
    expect(router.order(keys)).not.toContain(second);
  });

  test('a replica that goes moves its own prompts only', () => {
    const all = replicas(4);
    const before = Array.from({ length: 400 }, (_, i) => new Router(all).order(keyed(i))[0]);
    (all[1] as One).ready = false;
    let moved = 0;
    for (let i = 0; i < 400; i++) {
      const now = new Router(all).order(keyed(i))[0];
      if (before[i] !== all[1]) expect(now).toBe(before[i]);
      else moved += 1;
    }
    expect(moved).toBeGreaterThan(50);
    expect(moved).toBeLessThan(160);
  });

  test('nobody runs more than 1.25 of its share, and one that is full is asked last', () => {
    const all = replicas(4);
    const router = new Router(all);
    const keys = keyed(1);
    for (let i = 0; i < 100; i++) {
      const chosen = router.order(keys)[0] as One;
      router.took(keys, chosen);
      chosen.running += 1;
    }
    expect(Math.max(...all.map((one) => one.running))).toBeLessThanOrEqual(32);
    expect(new Set(router.order(keys)).size).toBe(4);
  });

  test('without a ready replica there is no order', () => {
    const all = replicas(2);
    for (const one of all) one.ready = false;
    expect(new Router(all).order(keyed(1))).toEqual([]);
  });
});
