// Policies that misbehave, in Node and in Python: named, with the token, and nothing hangs.
import { execFile } from 'node:child_process';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { bundlePolicy } from '../src/contract/bundle.ts';
import { LockstepError } from '../src/errors.ts';
import { packageRoot } from '../src/paths.ts';
import { PolicyHost, type PolicySource, Segmenter } from '../src/planner/index.ts';
import { python } from './helpers/python.ts';
import { trap } from './policies/trap.ts';

const limits = { milliseconds: 300, megabytes: 64 };
/** What fills memory is to be stopped by that, on a slow machine too. */
const memory = { milliseconds: 20_000, megabytes: 16 };

interface Fault {
  /** What it does, in place of the trap's statement. */
  body: string;
  code: string;
  message: RegExp;
  /** Other limits than the rest. */
  own?: typeof limits;
}

const faults: Record<string, Fault> = {
  'throws an error': {
    body: "throw new Error('boom')",
    code: 'LS_POLICY_THREW',
    message: /threw Error: boom$/,
  },
  'throws a string': { body: "throw 'boom'", code: 'LS_POLICY_THREW', message: /threw boom$/ },
  'throws nothing': {
    body: 'throw undefined',
    code: 'LS_POLICY_THREW',
    message: /threw undefined$/,
  },
  'uses what is not there': {
    body: 'return nothing.at(1)',
    code: 'LS_POLICY_THREW',
    message: /nothing is not defined$/,
  },
  'writes to its tables': {
    body: 'tables.list.push(1)',
    code: 'LS_POLICY_MEMORY',
    message: /writes to an object that outlives the call/,
  },
  'keeps state in a prototype': {
    body: 'Array.prototype.seen = 1',
    code: 'LS_POLICY_MEMORY',
    message: /writes to an object that outlives the call/,
  },
  'returns a number': { body: 'return 1', code: 'LS_POLICY_RESULT', message: /boolean, got 1$/ },
  'returns nothing': { body: '', code: 'LS_POLICY_RESULT', message: /boolean, got undefined$/ },
  'returns a promise': {
    // There are no promises in the engine.
    body: 'return (async () => true)()',
    code: 'LS_POLICY_THREW',
    message: /threw TypeError/,
  },
  loops: {
    body: 'for (;;) {}',
    code: 'LS_POLICY_LIMIT',
    message: /expected an answer, got none: .*loops/,
  },
  'loops and catches': {
    body: 'for (;;) { try { for (;;) {} } catch {} }',
    code: 'LS_POLICY_LIMIT',
    message: /got none/,
  },
  'calls itself': {
    body: 'const f = () => f() + 1; return f() > 1',
    code: 'LS_POLICY_LIMIT',
    message: /calls itself without end$/,
  },
  'fills memory with lists': {
    body: 'const all = []; for (;;) all.push(new Array(1000).fill(0.5))',
    code: 'LS_POLICY_LIMIT',
    message: /takes more memory than it may/,
    own: memory,
  },
  'fills memory with state': {
    body: 'state.kept = []; for (;;) state.kept.push({ a: [] })',
    code: 'LS_POLICY_LIMIT',
    message: /takes more memory than it may/,
    own: memory,
  },
  'fills memory with text': {
    body: "let s = 'x'; for (;;) s += s + state.seen",
    code: 'LS_POLICY_LIMIT',
    message: /takes more memory than it may/,
    own: memory,
  },
  'fills memory with buffers': {
    body: 'const all = []; for (;;) all.push(new Float64Array(1 << 20).fill(1))',
    code: 'LS_POLICY_LIMIT',
    message: /takes more memory than it may/,
    own: memory,
  },
  'reads the clock': {
    body: 'return Date.now() > 0',
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads Date,/,
  },
  'reads the other clock': {
    body: 'return performance.now() > 0',
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads performance,/,
  },
  'throws dice': {
    body: 'return Math.random() > 2',
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads Math\.random,/,
  },
  'computes what engines round differently': {
    body: 'return Math.exp(1) > 2',
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads Math\.exp,/,
  },
  'reads the environment': {
    body: 'return process.env.HOME === ""',
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads process,/,
  },
  'reads files': {
    body: "return require('fs').existsSync('/')",
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads require,/,
  },
  'reads the network': {
    body: "fetch('http://127.0.0.1')",
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads fetch,/,
  },
  'reads the globals': {
    body: 'return globalThis.lockstep === 1',
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads globalThis,/,
  },
  'makes code of text': {
    body: "return eval('true')",
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads eval,/,
  },
  'makes functions of text': {
    body: "return (() => {}).constructor('return true')()",
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads Function/,
  },
  'waits for the garbage collector': {
    body: 'new WeakRef(state)',
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads WeakRef,/,
  },
  'compares by locale': {
    body: "return 'a'.localeCompare('b') > 0",
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads String\.prototype\.localeCompare,/,
  },
  'matches text': {
    body: "return /a/.test('a')",
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads a regular expression outside prepare,/,
  },
  'splits text': {
    body: "return 'a b'.split(/ /).length > 5",
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads a regular expression outside prepare,/,
  },
  'asks Unicode': {
    body: "return 'a'.toUpperCase() === 'B'",
    code: 'LS_POLICY_FORBIDDEN',
    message: /reads String\.prototype\.toUpperCase,/,
  },
};

const statement = 'return state.seen < tables.list.length;';
/** Index 4, id 7. */
const tokens = [1, 2, 3, 4, 7, 5, 6];

interface Outcome {
  code?: string;
  message?: string;
  cuts?: number[];
  /** What came of another push to the same sequence, and to another one of the same host. */
  again?: string;
  other?: string;
}

let bundled: string;
beforeAll(async () => {
  bundled = (await bundlePolicy(trap())).source;
});

const sourceOf = (policySource: string): PolicySource => ({
  contract: {
    policy: { name: 'trap' },
    tables: { list: [1, 2, 3] },
    segment: { min: 1, max: 1000, align: 1 },
    tokenizer: { size: 100 },
  },
  policySource,
});

function trapOf(body: string): string {
  expect(bundled).toContain(statement);
  return bundled.replace(statement, `${body};`);
}

function inNode(policySource: string, own = limits): Outcome {
  const outcome: Outcome = {};
  const codeOf = (call: () => unknown): string => {
    try {
      call();
      return 'ok';
    } catch (error) {
      return (error as LockstepError).code;
    }
  };
  let host: PolicyHost | undefined;
  try {
    host = new PolicyHost(sourceOf(policySource), own);
    const segmenter = new Segmenter(host);
    const other = new Segmenter(host);
    try {
      outcome.cuts = segmenter.pushMany(tokens);
      segmenter.snapshot();
    } finally {
      outcome.again = codeOf(() => segmenter.push(1));
      outcome.other = codeOf(() => other.push(1));
    }
  } catch (error) {
    expect(error).toBeInstanceOf(LockstepError);
    Object.assign(outcome, (error as LockstepError).toJSON());
  } finally {
    host?.close();
  }
  return outcome;
}

/** As `inNode`, the other sequence in the same turn of the event loop, before and after. */
async function inOneTurn(policySource: string, own = limits): Promise<Outcome> {
  const host = new PolicyHost(sourceOf(policySource), own);
  const [before, segmenter, after] = [
    new Segmenter(host),
    new Segmenter(host),
    new Segmenter(host),
  ];
  const pushes = [before.pushSoon([1]), segmenter.pushSoon(tokens), after.pushSoon([1])];
  const [first, mine, last] = await Promise.allSettled(pushes);
  expect(first?.status).toBe('fulfilled');
  const outcome: Outcome = {};
  const codeOf = (one?: PromiseSettledResult<number[]>): string =>
    one?.status === 'rejected' ? (one.reason as LockstepError).code : 'ok';
  if (mine?.status === 'rejected') Object.assign(outcome, mine.reason.toJSON());
  outcome.other = codeOf(last);
  outcome.again = codeOf((await Promise.allSettled([segmenter.pushSoon([1])]))[0]);
  host.close();
  return outcome;
}

async function inPython(
  sources: readonly (readonly [string, typeof limits])[],
): Promise<Outcome[]> {
  const cases = sources.map(([source, own]) => ({ ...sourceOf(source), ...own, tokens }));
  const script = path.join(packageRoot, 'test/python/run_policy_cases.py');
  return new Promise((resolve, reject) => {
    const child = execFile(
      python,
      [script],
      {
        timeout: 100_000,
        maxBuffer: 1 << 26,
        env: { ...process.env, PYTHONPATH: path.join(packageRoot, 'python') },
      },
      (error, stdout) => (error === null ? resolve(JSON.parse(stdout)) : reject(error)),
    );
    child.stdin?.end(JSON.stringify(cases));
  });
}

function check(outcome: Outcome, { code, message }: Fault): void {
  expect(outcome).toMatchObject({ code });
  expect(outcome.message).toMatch(/^policy trap at token 4 \(id 7\): /);
  expect(outcome.message).toMatch(message);
  // A policy that cannot be trusted to answer is asked no more; others lose one sequence.
  const stopped = outcome.message?.includes('got none') === true;
  expect(outcome.again).toBe(stopped ? 'LS_POLICY_LIMIT' : 'LS_PLAN_CLOSED');
  expect(outcome.other).toBe(stopped ? 'LS_POLICY_LIMIT' : 'ok');
}

describe('a policy that', () => {
  let python: Outcome[];
  beforeAll(async () => {
    python = await inPython(
      Object.values(faults).map(({ body, own = limits }) => [trapOf(body), own]),
    );
  });

  describe.each(Object.entries(faults))('%s', (name, fault) => {
    it('is stopped in Node', () => {
      check(inNode(trapOf(fault.body), fault.own), fault);
    });

    it('is stopped beside others', async () => {
      check(await inOneTurn(trapOf(fault.body), fault.own), fault);
    });

    it('is stopped in Python', () => {
      check(python[Object.keys(faults).indexOf(name)] as Outcome, fault);
    });
  });
});

// Where memory ends decides what can still be said of it. It is never taken for an answer: a value, its
// text and the text of an error each need some.
describe('a policy that fills memory, whatever is left of it, is refused:', () => {
  const body = 'state.kept = []; for (;;) state.kept.push({ a: [] })';
  const megabytes = [16, 17, 18, 19, 20, 21, 22, 23, 24, 25];
  const own = megabytes.map((megabytes) => ({ ...memory, megabytes }));
  let python: Outcome[];
  beforeAll(async () => {
    python = await inPython(own.map((one) => [trapOf(body), one]));
  });

  it.each(megabytes)('%i MiB', async (limit) => {
    const at = megabytes.indexOf(limit);
    const source = trapOf(body);
    const outcomes = [inNode(source, own[at]), await inOneTurn(source, own[at]), python[at]];
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({ code: 'LS_POLICY_LIMIT' });
      expect(outcome?.message).toMatch(/ at token 4 \(id 7\): .*takes more memory than it may/);
      expect(outcome).not.toHaveProperty('cuts');
      expect(outcome?.again).toMatch(/^LS_P/);
    }
  });
});

describe('a policy.js that', () => {
  const cases: Record<string, { source: () => string; code: string; message: RegExp }> = {
    'throws at once': {
      source: () => `throw new Error('no');${bundled}`,
      code: 'LS_POLICY_LOAD',
      message: /threw Error: no when it was loaded$/,
    },
    'does not end': {
      source: () => `for (;;) {}${bundled}`,
      code: 'LS_POLICY_LIMIT',
      message: /does not end when it is loaded|expected an answer, got none/,
    },
    'is no JavaScript': {
      source: () => 'policy:',
      code: 'LS_POLICY_LOAD',
      message: /threw SyntaxError/,
    },
    'is no policy': {
      source: () => '(function (lockstep) {})',
      code: 'LS_POLICY_LOAD',
      message: /offers no policy/,
    },
    'exports no policy of that name': {
      source: () => bundled.replace('"trap", {}', '"gone", {}'),
      code: 'LS_POLICY_LOAD',
      message: /expected the module of the policy gone to export it/,
    },
    'keeps what JSON cannot': {
      source: () => trapOf('state.kept = new Map(); return false'),
      code: 'LS_POLICY_STATE',
      message: /expected state\.kept to be JSON, got a Map$/,
    },
  };
  let python: Outcome[];
  beforeAll(async () => {
    python = await inPython(Object.values(cases).map(({ source }) => [source(), limits]));
  });

  it.each(Object.entries(cases))('%s is refused in both', (name, { source, code, message }) => {
    for (const outcome of [inNode(source()), python[Object.keys(cases).indexOf(name)] as Outcome]) {
      expect(outcome).toMatchObject({ code, message: expect.stringMatching(message) });
    }
  });
});

it.each([
  [[1, 2, 100], /at token 2 \(id 100\): expected token ids from 0 to 99, got 100$/],
  [[1, -1], /at token 1 \(id -1\)/],
])('tokens outside the vocabulary are refused: %j', (list, message) => {
  const host = new PolicyHost(sourceOf(bundled), limits);
  expect(() => new Segmenter(host).pushMany(list)).toThrow(message);
  host.close();
});

it('a planner in use keeps no process alive', async () => {
  const script = `
    import { PolicyHost, Segmenter } from ${JSON.stringify(path.join(packageRoot, 'dist/planner/index.js'))};
    const source = JSON.parse(process.argv[1]);
    const segmenter = new Segmenter(source);
    console.log(segmenter.pushMany([1, 2, 3]).length);
  `;
  const stdout = await new Promise<string>((resolve, reject) => {
    execFile(
      process.execPath,
      ['--input-type=module', '-e', script, JSON.stringify(sourceOf(bundled))],
      { timeout: 30_000 },
      (error, out) => (error === null ? resolve(out) : reject(error)),
    );
  });
  expect(stdout.trim()).toBe('0');
});
