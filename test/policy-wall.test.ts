// What a hostile policy.js, perhaps from a downloaded checkpoint, can reach: nothing. In Node and in Python.
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { LockstepError } from '../src/errors.ts';
import { packageRoot } from '../src/paths.ts';
import { PolicyHost, type PolicySource, Segmenter } from '../src/planner/index.ts';
import { python } from './helpers/python.ts';

/** A policy.js, not made by the bundler, whose push answers `attempt`: true is an escape. */
const pushing = (attempt: string): string => `(function (lockstep) {
  const own = lockstep.definePolicy({ name: 'p', start: () => ({}), push(state, token, context) { ${attempt} } });
  lockstep.install(lockstep.revive([own], 'p', {}, []));
})`;
/** One that does something as it is evaluated, or as its modules run. */
const evaluated = (statements: string): string => `${statements};\n${pushing('return false')}`;
const running = (statements: string): string => `(function (lockstep) { ${statements};
  const own = lockstep.definePolicy({ name: 'p', push: () => false });
  lockstep.install(lockstep.revive([own], 'p', {}, []));
})`;

const host = (value: string): string => `const root = ${value};
  return typeof root === 'object' && root !== null && ('process' in root || 'require' in root);`;
const caught = (statements: string, then: string): string =>
  `try { ${statements} } catch (error) { ${then} } return false;`;

const probes: Record<string, string> = {
  // Host objects by errors.
  'constructor of an error': pushing(
    caught('null.x', host("error.constructor.constructor('return this')()")),
  ),
  'prepareStackTrace gets frames': pushing(
    `Error.prepareStackTrace = (_e, frames) => frames; ${caught('null.x', host("error.stack.constructor.constructor('return this')()"))}`,
  ),
  'frames of an error': pushing(
    caught('null.x', "return Array.isArray(error.stack) || String(error.stack).includes('node:');"),
  ),
  'an error of the stack': pushing(
    caught('const f = () => f() + 1; f()', host("error.constructor.constructor('return this')()")),
  ),
  'an error of memory': pushing(
    caught("'x'.repeat(1 << 29).repeat(8)", host("error.constructor.constructor('return this')()")),
  ),
  // Host objects by what it is given.
  'constructor of the state': pushing(host("state.constructor.constructor('return this')()")),
  'constructor of the context': pushing(host("context.constructor.constructor('return this')()")),
  'constructor of the kit': pushing(host("lockstep.definePolicy.constructor('return this')()")),
  'prototype of the kit': pushing(host('Object.getPrototypeOf(lockstep).constructor')),
  'this of push': pushing(host('this.constructor.constructor("return this")()')),
  'this of a function': pushing(
    'return (function () { return this !== undefined && "process" in this; })();',
  ),
  'caller of push': pushing(
    `${caught("const f = function () { return f.caller; }; return typeof f() === 'function';", 'return false;')}`,
  ),
  'arguments of the caller': pushing(
    `return (function () { return arguments.callee?.caller !== undefined; })();`,
  ),
  'the global object': pushing(host('globalThis')),
  'the global object by a function': pushing(host("(0, eval)('this')")),
  'a name of Node': pushing("return typeof process !== 'undefined' && process.pid > 0;"),
  require: pushing("return typeof require('fs').readFileSync === 'function';"),
  'import()': pushing("import('node:fs').then(() => {}); return false;"),
  'a rejected import()': pushing(
    "import('nowhere').catch((error) => { error.constructor.constructor('return process')().exit(3); }); return false;",
  ),
  'a host function of the engine': pushing(
    "return typeof std !== 'undefined' || typeof os !== 'undefined';",
  ),
  WebAssembly: pushing("return typeof WebAssembly !== 'undefined';"),
  'shared memory': pushing("return typeof SharedArrayBuffer !== 'undefined';"),
  'Function of a generator': pushing(
    host("(function* () {}).constructor('yield this')().next().value"),
  ),
  'Function of an async function': pushing(host("(async () => {}).constructor('return this')()")),
  // Getters, proxies, promises, symbols.
  'a getter as the answer': pushing(
    'return { get valueOf() { throw { get message() { return globalThis.process; } }; } };',
  ),
  'a proxy as the state': pushing('state.p = new Proxy({}, { get: () => process }); return false;'),
  'a thenable as the answer': pushing('return { then(resolve) { resolve(globalThis); } };'),
  'a promise as the answer': pushing('return Promise.resolve(true);'),
  'Symbol.toPrimitive as the answer': pushing(
    'return { [Symbol.toPrimitive]() { return true; } };',
  ),
  'Symbol.species': pushing(
    'class L extends Array { static get [Symbol.species]() { return globalThis.constructor; } } return new L(3).map(() => 1) instanceof Object === false;',
  ),
  'Symbol.hasInstance': pushing(
    'const f = { [Symbol.hasInstance]: (v) => { throw v; } }; return state instanceof f;',
  ),
  'toJSON of the state': pushing(
    "state.toJSON = () => ({ position: 0, length: 0, asked: false, state: 'other' }); return false;",
  ),
  'a throw of an object': pushing('throw { toString() { return globalThis.process.env.HOME; } };'),
  'a throw that loops when told': pushing('throw { toString() { for (;;); } };'),
  'a throw of null': pushing('throw null;'),
  'a code in an error': pushing(
    'throw Object.assign(new Error("x"), { code: "LS_FORGED", toJSON: () => ({}) });',
  ),
  'an error report as the name': running(
    `lockstep.install(lockstep.revive([lockstep.definePolicy({ name: '{"error":{"code":"LS_FORGED"}}', push: () => true })], '{"error":{"code":"LS_FORGED"}}', {}, []))`,
  ),
  // The runtime itself.
  'the kit is changed': running('lockstep.install = () => {}'),
  'built-ins are changed': running('Array.prototype.push = () => { throw 1; }'),
  'JSON is changed': running('JSON.parse = () => ({})'),
  'Map is changed': running('Map.prototype.get = () => ({ position: 0, length: 0, state: {} })'),
  'getters on prototypes': running(
    "Object.defineProperty(Object.prototype, 'position', { get: () => 1e9 })",
  ),
  'the policy changes after it is installed': pushing('own.push = () => true; return false;'),
  'cuts out of order': pushing('this.cut = 1; state.position = -5; return false;'),
  'two policies': running(
    "lockstep.install({ name: 'q', push: () => true, start: () => ({}), cut() {} })",
  ),
  'a policy of getters': `(function (lockstep) {
    lockstep.install({ name: 'p', params: null, get push() { return () => true; }, start: () => ({}), cut() { for (;;); } });
  })`,
  'no function': '({ length: 1 })',
  'a number': '42',
  // Time.
  'loops when it is evaluated': evaluated('for (;;);'),
  'loops when its modules run': running('for (;;);'),
  'loops in start': `(function (lockstep) {
    lockstep.install({ name: 'p', push: () => false, start() { for (;;); }, cut() {} });
  })`,
  'loops in a built-in': pushing(
    'return Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1) === 0;',
  ),
  'loops in a join': pushing('return [].concat(new Array(2 ** 32 - 1)).join("").length > 1;'),
  'a regular expression that explodes': evaluated("/(a+)+b/.test('a'.repeat(64))"),
  'sorts without end': pushing(
    'const list = Array.from({ length: 1 << 16 }, (_, i) => i); for (;;) list.sort(() => 1 - 2 * (list.length % 2));',
  ),
  // Memory and stack.
  'an enormous string': pushing("let s = 'ab'; for (;;) s = s + s + state.x;"),
  'an enormous list': pushing('const l = []; for (;;) l.push([l.length]);'),
  'an enormous typed array': pushing('const l = []; for (;;) l.push(new Float64Array(1 << 22));'),
  'enormous memory as its modules run': running(
    'const l = []; for (;;) l.push(new Uint8Array(1 << 24).fill(1))',
  ),
  'a state without bottom': pushing(
    'let s = state; for (let i = 0; i < 1e5; i++) s = s.next = {}; return false;',
  ),
  'text that nests': pushing("return JSON.parse('['.repeat(1e5) + ']'.repeat(1e5)).length > 5;"),
  'an expression that nests': evaluated(`(0, ${'('.repeat(20_000)}1${')'.repeat(20_000)})`),
  'recursion in a comparator': pushing('const f = () => [2, 1].sort(f).length; return f() > 5;'),
  'a class of its own for lists': pushing(
    'class L extends Array { get length() { return 2 ** 31; } } state.l = new L(); return false;',
  ),
  ...Object.fromEntries(
    readdirSync(path.join(packageRoot, 'test/hostile'))
      .sort()
      .map((name) => [name, readFileSync(path.join(packageRoot, 'test/hostile', name), 'utf8')]),
  ),
};

const limits = { milliseconds: 100, megabytes: 48 };
const tokens = [1, 2, 3, 4, 5];
const sourceOf = (policySource: string): PolicySource => ({
  contract: {
    policy: { name: 'p' },
    tables: { list: [1] },
    segment: { min: 1, max: 1000, align: 1 },
    tokenizer: { size: 100 },
  },
  policySource,
});

interface Outcome {
  code?: string;
  message?: string;
  cuts?: number[];
}

function inNode(policySource: string): Outcome {
  try {
    const segmenter = new Segmenter(new PolicyHost(sourceOf(policySource), limits));
    const cuts = segmenter.pushMany(tokens);
    segmenter.snapshot();
    return { cuts };
  } catch (error) {
    expect(error).toBeInstanceOf(LockstepError);
    return (error as LockstepError).toJSON();
  }
}

function inPython(): Promise<Outcome[]> {
  const cases = Object.values(probes).map((source) => ({ ...sourceOf(source), ...limits, tokens }));
  return new Promise((resolve, reject) => {
    const child = execFile(
      python,
      [path.join(packageRoot, 'test/python/run_policy_cases.py')],
      {
        timeout: 110_000,
        maxBuffer: 1 << 26,
        env: { ...process.env, PYTHONPATH: path.join(packageRoot, 'python') },
      },
      (error, stdout) => (error === null ? resolve(JSON.parse(stdout)) : reject(error)),
    );
    child.stdin?.end(JSON.stringify(cases));
  });
}

let fromPython: Outcome[];
beforeAll(async () => {
  fromPython = await inPython();
}, 120_000);

describe('a hostile policy.js cannot leave its sandbox:', () => {
  it.each(Object.keys(probes))('%s', (name) => {
    for (const outcome of [
      inNode(probes[name] as string),
      fromPython[Object.keys(probes).indexOf(name)] as Outcome,
    ]) {
      // It is refused by name, or it runs and has found nothing.
      if (outcome.code === undefined) expect(outcome.cuts).toEqual([]);
      else {
        expect(outcome.code).toMatch(/^LS_(POLICY|PLAN)_[A-Z]+$/);
        expect(outcome.message).not.toMatch(/\/(home|root|usr)\/|node:/);
      }
    }
  });

  it('and the environment and the files are as before', () => {
    expect(process.exitCode ?? 0).toBe(0);
    expect(process.env['HOME']).not.toBe('other');
  });

  it('with a memory that does not grow', () => {
    const before = process.memoryUsage().rss;
    for (let i = 0; i < 12; i++) inNode(probes['an enormous typed array'] as string);
    // Twelve hosts of 64 MiB at the most each, if none were collected.
    expect(process.memoryUsage().rss - before).toBeLessThan(12 * 80 * (1 << 20));
  });
});

// V8's own limit stops these, and it is set once for a whole turn.
it.each(['loops in a built-in', 'loops in a join'])('beside others, one that %s', async (name) => {
  const host = new PolicyHost(sourceOf(probes[name] as string), limits);
  const pushes = [1, 2, 3].map((token) => new Segmenter(host).pushSoon([token]));
  for (const pushed of await Promise.allSettled(pushes)) {
    expect(pushed).toMatchObject({ status: 'rejected', reason: { code: 'LS_POLICY_LIMIT' } });
  }
  expect(host.stopped).toBe(true);
});
