// A policy has no memory but its state: refused where it is written, or found when it runs.
import { describe, expect, it } from 'vitest';
import { LockstepError } from '../src/errors.ts';
import { interleavedPlans } from '../src/planner/index.ts';
import { bundled, own, sequences, usePolicyFiles } from './helpers/own-policy.ts';

usePolicyFiles();

/** Modules, what is refused, and whether the place is known before anything runs. */
const cases: readonly [title: string, module: string, code: string, message: RegExp][] = [
  [
    'a variable of the module',
    `let turns = 0;
     ${own('push(_s: any, t) { if (t !== 2) return false; turns += 1; return turns % 2 === 0; }')}`,
    'LS_POLICY_MEMORY',
    /own-\d+\.ts:3: .*writes to turns, a variable of its module/,
  ],
  [
    'a counter of tokens',
    `let n = 0;\n${own('push: () => ++n % 64 === 0')}`,
    'LS_POLICY_MEMORY',
    /own-\d+\.ts:3: .*writes to n/,
  ],
  [
    'the last token',
    `let previous = -1;
     ${own('push: (_s: any, t, { tables }: any) => { const cut = has(tables.ends, previous); previous = t; return cut; }')}`,
    'LS_POLICY_MEMORY',
    /:3: .*writes to previous/,
  ],
  [
    'a Map of the module',
    `const seen = new Map<number, number>();
     ${own('push: (_s: any, t) => { seen.set(t, (seen.get(t) ?? 0) + 1); return seen.get(t)! % 2 === 0; }')}`,
    'LS_POLICY_MEMORY',
    /:3: .*calls set on seen/,
  ],
  [
    'an object of the module, from start',
    `const init = { n: 0 };\n${own('start: () => init, push: (s: any) => { s.n += 1; return s.n % 5 === 0; }')}`,
    'LS_POLICY_MEMORY',
    /:3: .*returns init, one object for all sequences, from start/,
  ],
  [
    'a Set in the state',
    own(
      'start: () => ({ seen: null as any }), push: (s: any, t) => { s.seen ??= new Set(); s.seen.add(t); return s.seen.size % 10 === 0; }',
    ),
    'LS_POLICY_MEMORY',
    /:2: .*keeps a Set in the state/,
  ],
  [
    'a property of a constant object',
    `const memory = { n: 0 };\n${own('push: () => { memory.n += 1; return memory.n % 5 === 0; }')}`,
    'LS_POLICY_MEMORY',
    /:3: .*writes to a property of memory/,
  ],
  [
    'the same by a local name',
    `const memory = { deep: { n: 0 } };\n${own('push: () => { const d = memory.deep; d.n += 1; return d.n % 5 === 0; }')}`,
    'LS_POLICY_MEMORY',
    /:3: .*writes to a property of memory/,
  ],
  [
    'the same by destructuring',
    `const memory = { deep: { n: 0 } };\n${own('push: () => { const { deep } = memory; deep.n += 1; return deep.n % 5 === 0; }')}`,
    'LS_POLICY_MEMORY',
    /writes to an object that outlives the call/,
  ],
  [
    'the same by a helper',
    `const memory = { n: 0 };
     const bump = (o: { n: number }) => { o.n += 1; return o.n; };
     ${own('push: () => bump(memory) % 5 === 0')}`,
    'LS_POLICY_MEMORY',
    /writes to an object that outlives the call/,
  ],
  [
    'a list, by a helper in a helper',
    `const list: number[] = [];
     function keep(t: number) { list.push(t); if (list.length > 5) list.shift(); }
     function see(t: number) { keep(t); return list[0]! > t; }
     ${own('push: (_s: any, t) => see(t)')}`,
    'LS_POLICY_MEMORY',
    /:3: .*calls push on list/,
  ],
  [
    'an inlined list, by destructuring a parameter',
    `const lists = [[0]];
     const bump = ([first]: number[][]) => { first![0]! += 1; return first![0]!; };
     ${own('push: () => bump(lists) % 5 === 0')}`,
    'LS_POLICY_MEMORY',
    /writes to an object that outlives the call/,
  ],
  [
    'a static of a class',
    `class Counter { static n = 0; }\n${own('push: () => { Counter.n += 1; return Counter.n % 5 === 0; }')}`,
    'LS_POLICY_MEMORY',
    /:3: .*writes to a property of Counter/,
  ],
  [
    'an object of a class',
    `class Counter { n = 0; next() { this.n += 1; return this.n; } }
     const counter = new Counter();
     ${own('push: () => counter.next() % 5 === 0')}`,
    'LS_POLICY_MEMORY',
    /writes to an object that outlives the call/,
  ],
  [
    'a private field',
    `class Counter { #n = 0; next() { this.#n += 1; return this.#n; } }
     const counter = new Counter();
     ${own('push: () => counter.next() % 5 === 0')}`,
    'LS_POLICY_NONDETERMINISTIC',
    /:2: .*uses a private field/,
  ],
  [
    'a closure',
    `const make = () => { let n = 0; return () => { n += 1; return n; }; };
     const next = make();
     ${own('push: () => next() % 5 === 0')}`,
    'LS_POLICY_MEMORY',
    /writes to n \(own-\d+\.ts:2\), which an earlier call made/,
  ],
  [
    'a closure without braces',
    `const next = ((n) => () => ++n)(0);\n${own('push: () => next() % 5 === 0')}`,
    'LS_POLICY_MEMORY',
    /writes to n \(own-\d+\.ts:2\)/,
  ],
  [
    'an object in a closure, by another name',
    `const next = (() => { const o = [{ n: 0 }]; return () => { const [p] = o; p!.n += 1; return p!.n; }; })();
     ${own('push: () => next() % 5 === 0')}`,
    'LS_POLICY_MEMORY',
    /writes to an object that outlives the call/,
  ],
  [
    'a parameter in a closure',
    `const make = (o: { n: number }) => () => { const p = o; p.n += 1; return p.n; };
     const next = make({ n: 0 });
     ${own('push: () => next() % 5 === 0')}`,
    'LS_POLICY_MEMORY',
    /writes to an object that outlives the call/,
  ],
  [
    'a Map in a closure',
    `const next = (() => { const m = new Map([[0, 0]]); return () => { m.set(0, m.get(0)! + 1); return m.get(0)!; }; })();
     ${own('push: () => next() % 5 === 0')}`,
    'LS_POLICY_MEMORY',
    /changes a Map or Set that outlives the call/,
  ],
  [
    'a closure of a loop of the module',
    `const all: (() => number)[] = [];
     for (const o of [{ n: 0 }]) all.push(() => { const p = o; p.n += 1; return p.n; });
     ${own('push: () => all[0]!() % 5 === 0')}`,
    'LS_POLICY_MEMORY',
    /writes to an object that outlives the call/,
  ],
  [
    'a callback that a method keeps',
    `const kept: (() => number)[] = [];
     const register = (f: () => number) => { kept[0] = f; };
     const begin = () => { let n = 0; register(() => ++n); };
     begin();
     ${own('push: () => kept[0]!() % 5 === 0')}`,
    'LS_POLICY_MEMORY',
    /writes to n \(own-\d+\.ts:4\)/,
  ],
  [
    'what a WeakMap holds',
    `const key = {};
     const held = new WeakMap([[key, { n: 0 }]]);
     ${own('push: () => { const o = held.get(key)!; o.n += 1; return o.n % 5 === 0; }')}`,
    'LS_POLICY_MEMORY',
    /writes to an object that outlives the call/,
  ],
  [
    'a bound argument',
    `const bump = function (this: { n: number }) { this.n += 1; return this.n; };
     const next = bump.bind({ n: 0 });
     ${own('push: () => next() % 5 === 0')}`,
    'LS_POLICY_FORBIDDEN',
    /reads Function\.prototype\.bind/,
  ],
  [
    'a generator',
    `function* count() { for (let n = 1; ; n++) yield n; }
     const counter = count();
     ${own('push: () => counter.next().value! % 5 === 0')}`,
    'LS_POLICY_MEMORY',
    /keeps an iterator in a variable of its module/,
  ],
  [
    'an iterator of a list',
    `const list = [1, 2, 3][Symbol.iterator]();
     ${own('push: () => list.next().done === true')}`,
    'LS_POLICY_MEMORY',
    /keeps an iterator/,
  ],
  [
    'a property of a built-in',
    own(
      'push: () => { (Array as any).seen = ((Array as any).seen ?? 0) + 1; return (Array as any).seen % 5 === 0; }',
    ),
    'LS_POLICY_MEMORY',
    /writes to an object that outlives the call/,
  ],
  [
    'a property of a function',
    `function see() { (see as any).n = ((see as any).n ?? 0) + 1; return (see as any).n; }
     ${own('push: () => see() % 5 === 0')}`,
    'LS_POLICY_MEMORY',
    /:2: .*writes to a property of see/,
  ],
  [
    'the definition itself',
    own('push(this: any) { this.n = (this.n ?? 0) + 1; return this.n % 5 === 0; }'),
    'LS_POLICY_MEMORY',
    /writes to an object that outlives the call/,
  ],
  [
    'the context',
    own('push: (_s: any, _t, c: any) => { c.n = (c.n ?? 0) + 1; return c.n % 5 === 0; }'),
    'LS_POLICY_MEMORY',
    /writes to an object that outlives the call/,
  ],
  [
    'the tables',
    own('push: (_s: any, t, { tables }: any) => { tables.ends.push(t); return false; }'),
    'LS_POLICY_MEMORY',
    /writes to an object that outlives the call/,
  ],
  [
    'what derived computes',
    `const memory = (_: object) => ({ n: 0 });
     ${own('push: (_s: any, _t, { tables }: any) => { const m = derived(tables, memory); m.n += 1; return m.n % 5 === 0; }')}`,
    'LS_POLICY_MEMORY',
    /writes to an object that outlives the call/,
  ],
  [
    'a typed array of many bytes',
    `const bytes = new Uint8Array(8192);
     ${own('push: (_s: any, t) => bytes[t] === 1')}`,
    'LS_POLICY_MEMORY',
    /keeps typed arrays of more than 4096 bytes/,
  ],
  [
    'two names for one list of the state',
    own(
      'start: () => ({ a: [] as number[], b: [] as number[] }), push: (s: any, t) => { s.a = s.b; s.a.push(t); return s.b.length % 5 === 0; }',
    ),
    'LS_POLICY_STATE',
    /an object that the state holds twice/,
  ],
  [
    'a function in the state',
    own(
      'start: () => ({ f: null as any }), push: (s: any) => { let n = 0; s.f ??= () => ++n; return s.f() % 5 === 0; }',
    ),
    'LS_POLICY_MEMORY',
    /writes to n/,
  ],
  [
    'a list of the module in the state',
    `const list = [1, 2];\n${own('start: () => ({ l: [] as number[] }), push: (s: any) => { s.l = list; return false; }')}`,
    'LS_POLICY_STATE',
    /an object of the module, the tables or the parameters/,
  ],
];

describe('refuses memory in', () => {
  it.each(cases)('%s', async (_title, module, code, message) => {
    const outcome = await bundled(module)
      .then((source) => interleavedPlans(source, sequences))
      .catch((error: unknown) => error);
    expect(outcome).toBeInstanceOf(LockstepError);
    expect(outcome).toMatchObject({ code, message: expect.stringMatching(message) });
  });
});
