// Policies that look as if they remembered something outside their state, and do not, are accepted.
import { describe, expect, it } from 'vitest';
import { interleavedPlans, plan } from '../src/planner/index.ts';
import { bundled, own, sequences, usePolicyFiles } from './helpers/own-policy.ts';

usePolicyFiles();

/** Modules that look alike and remember nothing. */
const fine: readonly [title: string, module: string][] = [
  [
    'constants, and helpers of the module',
    `const ends = new Set([2, 7]);
     const weights = { 2: 3, 7: 5 } as Record<number, number>;
     const score = (t: number) => (ends.has(t) ? weights[t]! : 0);
     ${own('start: () => ({ sum: 0 }), push: (s: any, t) => { s.sum += score(t); return s.sum % 4 === 3; }')}`,
  ],
  [
    'collections and closures within a call',
    own(
      `start: () => ({ recent: [] as number[] }),
       push: (s: any, t) => {
         s.recent.push(t);
         if (s.recent.length > 9) s.recent.shift();
         const counts = new Map<number, number>();
         let most = 0;
         s.recent.forEach((r: number) => {
           counts.set(r, (counts.get(r) ?? 0) + 1);
           most = Math.max(most, counts.get(r)!);
         });
         return most > 2;
       }`,
    ),
  ],
  [
    'classes and generators within a call',
    `class Window { total = 0; add(n: number) { this.total += n; return this; } }
     function* last(list: number[]) { for (const n of list.slice(-3)) yield n; }
     ${own(
       `start: () => ({ recent: [] as number[] }),
        push: (s: any, t) => {
          s.recent = [...s.recent, t].slice(-5);
          const w = new Window();
          for (const n of last(s.recent)) w.add(n);
          return w.total % 7 === 0;
        }`,
     )}`,
  ],
  [
    'tables made while the module runs',
    `const powers: number[] = [];
     for (let i = 0, p = 1; i < 12; i++, p = Math.imul(p, 3)) powers.push(p);
     function table() { const out = new Map<number, number>(); powers.forEach((p, i) => out.set(i, p)); return out; }
     const byIndex = table();
     ${own('push: (_s: any, t) => (byIndex.get(t) ?? 0) % 5 === 4')}`,
  ],
  [
    'the bits of a number in typed arrays of the module',
    `const value = new Float64Array(1);
     const words = new Uint32Array(value.buffer);
     const high = (x: number) => { value[0] = x; return words[1]!; };
     ${own('start: () => ({ x: 1 }), push: (s: any, t) => { s.x = s.x * 1.5 + t; if (s.x > 1e9) s.x = 1; return high(s.x) % 3 === 0; }')}`,
  ],
  [
    'typed arrays of the module that would remember',
    `const seen = new Uint8Array(32);
     const note = (list: Uint8Array, t: number) => { list[t]! += 1; return list[t]!; };
     ${own('push: (_s: any, t) => note(seen, t) === 2')}`,
  ],
  [
    'the sign of zero, and texts that begin with the mark of it',
    own(
      `start: () => ({ z: 0, text: '\\u0000-0', n: 0 }),
       push: (s: any, t) => {
         s.n += 1;
         s.z = t % 3 === 0 ? -0 : t % 3 === 1 ? 0 : s.z;
         if (t === 5) s.text = s.text.length === 3 ? '\\u0000\\u0000x' : '\\u0000-0';
         return Object.is(s.z, -0) && s.text.length === 3 && s.n % 2 === 0;
       }`,
    ),
  ],
  [
    'what follows from the tables',
    `const lookUp = ({ ends }: { ends: number[] }) => ends.reduce((all, t) => { all[t] = true; return all; }, [] as boolean[]);
     ${own('push: (_s: any, t, { tables }: any) => derived(tables as { ends: number[] }, lookUp)[t] === true')}`,
  ],
];

describe('accepts', () => {
  it.each(fine)('%s', async (_title, module) => {
    const source = await bundled(module);
    const alone = sequences.map((tokens) => plan({ ...source }, tokens));
    expect(interleavedPlans(source, sequences)).toEqual(alone);
  });

  it('such a policy, and it cuts', async () => {
    const source = await bundled(fine[1]?.[1] as string);
    expect(plan(source, sequences[0] as number[]).length).toBeGreaterThan(0);
  });
});
