// Lockstep's policy runtime, version 1: the planner's rule and all that a policy meets when it runs.
//
// FROZEN. Its SHA-256 stands in every contract that was made for it, so a change of a single byte
// would refuse them all. What has to change becomes policy-runtime.v2.js beside it; version 1 stays
// for the contracts that name it (docs/contract.md).
//
// A classic script, run by quickjs-ng in Node and in Python alike. Its value is `invoke(operation,
// argument)`: everything that crosses is a string, an integer, or cells of 32-bit integers. The policy
// (policy.js) is a function of `kit`, and meets nothing else of this script.
(() => {
  // ---- The realm: nothing in it but the language, and nothing in it that a policy could change.

  const allowedGlobals = [
    'undefined',
    'NaN',
    'Infinity',
    'isNaN',
    'isFinite',
    'parseInt',
    'parseFloat',
    'Object',
    'Array',
    'String',
    'Number',
    'Boolean',
    'Symbol',
    'Math',
    'JSON',
    'Reflect',
    'RegExp',
    'Map',
    'Set',
    'WeakMap',
    'WeakSet',
    'Iterator',
    'Error',
    'AggregateError',
    'EvalError',
    'RangeError',
    'ReferenceError',
    'SyntaxError',
    'TypeError',
    'URIError',
    'InternalError',
    'ArrayBuffer',
    'DataView',
    'Int8Array',
    'Uint8Array',
    'Uint8ClampedArray',
    'Int16Array',
    'Uint16Array',
    'Int32Array',
    'Uint32Array',
    'Float32Array',
    'Float64Array',
  ];
  const exactMath = [
    'abs',
    'ceil',
    'clz32',
    'floor',
    'fround',
    'imul',
    'max',
    'min',
    'round',
    'sign',
    'sqrt',
    'trunc',
    'E',
    'LN10',
    'LN2',
    'LOG10E',
    'LOG2E',
    'PI',
    'SQRT1_2',
    'SQRT2',
  ];
  const localeMethods = [
    'localeCompare',
    'toLocaleString',
    'toLocaleDateString',
    'toLocaleTimeString',
    'toLocaleLowerCase',
    'toLocaleUpperCase',
  ];
  const textMethods = ['normalize', 'toLowerCase', 'toUpperCase'];
  const outsideNames = [
    'Atomics',
    'BigInt',
    'BigInt64Array',
    'BigUint64Array',
    'Buffer',
    'Date',
    'DOMException',
    'FinalizationRegistry',
    'Intl',
    'Promise',
    'Proxy',
    'SharedArrayBuffer',
    'TextDecoder',
    'TextEncoder',
    'URL',
    'WeakRef',
    'WebAssembly',
    'WebSocket',
    'XMLHttpRequest',
    'clearTimeout',
    'console',
    'crypto',
    'document',
    'exports',
    'fetch',
    'global',
    'module',
    'navigator',
    'os',
    'performance',
    'process',
    'queueMicrotask',
    'require',
    'self',
    'setImmediate',
    'setInterval',
    'setTimeout',
    'std',
    'structuredClone',
    'window',
  ];

  const realm = globalThis;
  const { apply, defineProperty, ownKeys, getOwnPropertyDescriptor, getPrototypeOf } = Reflect;
  const { freeze } = Object;
  const hasPrototype = Object.prototype.isPrototypeOf;
  const isView = ArrayBuffer.isView;
  const has_ = WeakSet.prototype.has;
  const add_ = WeakSet.prototype.add;
  const mapForEach = Map.prototype.forEach;
  const setForEach = Set.prototype.forEach;
  const mapSize = getOwnPropertyDescriptor(Map.prototype, 'size').get;
  const setSize = getOwnPropertyDescriptor(Set.prototype, 'size').get;
  const plainMapSet = Map.prototype.set;
  const plainMapDelete = Map.prototype.delete;
  const plainWeakMapSet = WeakMap.prototype.set;
  const bufferOf = getOwnPropertyDescriptor(getPrototypeOf(Int8Array.prototype), 'buffer').get;
  const dataViewBuffer = getOwnPropertyDescriptor(DataView.prototype, 'buffer').get;
  const bufferLength = getOwnPropertyDescriptor(ArrayBuffer.prototype, 'byteLength').get;

  /** 'load' while the policy's modules run, 'run' from then on. */
  let phase = 'load';
  /** Counts the calls from outside, and the tokens within them. */
  let call = 0;

  class PolicyFault extends Error {
    constructor(code, message) {
      super(message);
      this.code = code;
    }
  }
  class Forbidden extends Error {
    constructor(what) {
      super(`reads ${what}`);
      this.what = what;
    }
  }
  const refusing = (what) => () => {
    throw new Forbidden(what);
  };
  const fixed = (value) => ({ value, writable: false, enumerable: false, configurable: false });
  const forbid = (owner, name, what) => defineProperty(owner, name, fixed(refusing(what)));

  for (const name of ownKeys(Math)) {
    if (typeof name === 'string' && !exactMath.includes(name)) forbid(Math, name, `Math.${name}`);
  }
  for (const [shown, owner] of [
    ['Object', Object.prototype],
    ['Array', Array.prototype],
    ['String', String.prototype],
    ['Number', Number.prototype],
  ]) {
    for (const name of localeMethods) {
      if (name in owner) forbid(owner, name, `${shown}.prototype.${name}`);
    }
  }
  // What would hide an object from the walk that freezes what outlives a call.
  forbid(Object, 'setPrototypeOf', 'Object.setPrototypeOf');
  forbid(Reflect, 'setPrototypeOf', 'Reflect.setPrototypeOf');
  Reflect.deleteProperty(Object.prototype, '__proto__');
  forbid(Function.prototype, 'bind', 'Function.prototype.bind');
  for (const name of ['resize', 'transfer', 'transferToFixedLength']) {
    if (name in ArrayBuffer.prototype) {
      forbid(ArrayBuffer.prototype, name, `ArrayBuffer.prototype.${name}`);
    }
  }
  if ('fromAsync' in Array) forbid(Array, 'fromAsync', 'Array.fromAsync');
  // Code made of strings. Every kind of function leads to a constructor of its own.
  for (const kind of [() => {}, function* () {}]) {
    forbid(getPrototypeOf(kind), 'constructor', 'Function (code made of strings)');
  }
  // Traces tell of the engine and of its limits.
  Error.stackTraceLimit = 0;
  for (const name of ['captureStackTrace', 'prepareStackTrace']) {
    if (name in Error) delete Error[name];
  }

  /** Text is read in `prepare`, when a contract is made; pushing a token reads tables. */
  const notAtRunTime = (owner, name, what) => {
    const original = owner[name];
    const guarded = function (...given) {
      if (phase === 'run') throw new Forbidden(what);
      return apply(original, this, given);
    };
    defineProperty(owner, name, fixed(guarded));
  };
  notAtRunTime(RegExp.prototype, 'exec', 'a regular expression outside prepare');
  for (const name of textMethods) {
    notAtRunTime(String.prototype, name, `String.prototype.${name}`);
  }

  // ---- What outlives a call is frozen: objects by the language, collections by their methods.

  /** All that outlives a call: built-ins first, then what the policy's modules hold. */
  const lasting = new WeakSet();
  const isLasting = (value) => apply(has_, lasting, [value]);
  /** What the policy's modules hold, gathered while they run. */
  let gathered = [];
  const isObject = (value) =>
    (typeof value === 'object' && value !== null) || typeof value === 'function';

  /** `value` outlives a call if it is made while the policy's modules run. Returns it. */
  const keep = (value) => {
    if (phase === 'load' && isObject(value)) gathered.push(value);
    return value;
  };

  const guardMutator = (owner, name) => {
    const original = owner[name];
    if (original === undefined) return;
    const guarded = function (...given) {
      if (isObject(this) && isLasting(this)) {
        throw new PolicyFault(
          'LS_POLICY_MEMORY',
          'changes a Map or Set that outlives the call, so one sequence would change another',
        );
      }
      // What a WeakMap holds cannot be found later.
      if (phase === 'load') given.forEach(keep);
      return apply(original, this, given);
    };
    defineProperty(owner, name, fixed(guarded));
  };
  for (const owner of [Map.prototype, Set.prototype, WeakMap.prototype, WeakSet.prototype]) {
    for (const name of ['set', 'add', 'delete', 'clear', 'getOrInsert', 'getOrInsertComputed']) {
      guardMutator(owner, name);
    }
  }

  const succeeds = (getter, value) => {
    try {
      apply(getter, value, []);
      return true;
    } catch {
      return false;
    }
  };

  const iteratorPrototypes = [
    function* () {}.prototype,
    [][Symbol.iterator](),
    new Map()[Symbol.iterator](),
    new Set()[Symbol.iterator](),
    ''[Symbol.iterator](),
    'a'.matchAll(/a/g),
    [].values().map((value) => value),
    Iterator.from({ next: () => ({ done: true }) }),
  ].map(getPrototypeOf);
  /** What works on an object of the language's that goes on by itself, and on no other. */
  const steps = [
    getPrototypeOf(function* () {}.prototype).return,
    ...iteratorPrototypes.slice(1).map((prototype) => prototype.next),
  ];

  /**
   * Typed arrays cannot be frozen. Those of a module, as portable mathematics has them for the bits of a
   * number, get their first bytes back before each token.
   */
  const scratch = [];
  const scratchLimit = 4096;
  let scratchBytes = 0;
  const keepScratch = (buffer) => {
    if (isLasting(buffer)) return;
    apply(add_, lasting, [buffer]);
    scratchBytes += apply(bufferLength, buffer, []);
    if (phase === 'run' || scratchBytes > scratchLimit) {
      throw lastingFault(`typed arrays of more than ${scratchLimit} bytes`);
    }
    const bytes = new Uint8Array(buffer);
    scratch.push({ bytes, first: new Uint8Array(bytes) });
    freeze(buffer);
  };
  const settleScratch = () => {
    for (let i = 0; i < scratch.length; i++) scratch[i].bytes.set(scratch[i].first);
  };

  /** Freeze objects and everything that can be reached from them. */
  const seal = (roots, builtIn) => {
    const waiting = [...roots];
    while (waiting.length > 0) {
      const value = waiting.pop();
      if (!isObject(value) || isLasting(value)) continue;
      if (!builtIn && succeeds(bufferLength, value)) {
        keepScratch(value);
        continue;
      }
      apply(add_, lasting, [value]);
      if (!builtIn) {
        if (steps.some((step) => succeeds(step, value))) throw lastingFault('an iterator');
        if (isView(value)) {
          keepScratch(apply(succeeds(bufferOf, value) ? bufferOf : dataViewBuffer, value, []));
          // Its elements are the buffer's; nothing else can be added to it.
          Object.preventExtensions(value);
          continue;
        }
        if (succeeds(mapSize, value)) {
          apply(mapForEach, value, [(item, key) => waiting.push(key, item)]);
        } else if (succeeds(setSize, value)) {
          apply(setForEach, value, [(item) => waiting.push(item)]);
        }
      }
      for (const key of ownKeys(value)) {
        const { value: held, get, set } = getOwnPropertyDescriptor(value, key);
        waiting.push(held, get, set);
      }
      waiting.push(getPrototypeOf(value));
      freeze(value);
    }
  };
  const lastingFault = (what) =>
    new PolicyFault(
      'LS_POLICY_MEMORY',
      `keeps ${what} in a variable of its module, which cannot be frozen`,
    );
  /** The same for what JSON.parse made. */
  const sealJson = (value) => {
    if (typeof value !== 'object' || value === null) return value;
    apply(add_, lasting, [value]);
    for (const item of Object.values(value)) sealJson(item);
    return freeze(value);
  };

  for (const name of ownKeys(realm)) {
    if (allowedGlobals.includes(name)) {
      defineProperty(realm, name, { value: realm[name], writable: false, configurable: false });
    } else if (typeof name === 'string') {
      defineProperty(realm, name, { get: refusing(name), configurable: false });
    }
  }
  seal(
    [
      ...allowedGlobals.map((name) => realm[name]),
      ...iteratorPrototypes,
      ...[() => {}, function* () {}].map(getPrototypeOf),
    ],
    true,
  );
  freeze(realm);

  // ---- The planner's rule (SEMANTICS.md 5).

  let limits = { min: 1, max: 1, align: 1, vocabulary: 0 };
  let tables = null;
  let policy;

  /** Only what JSON gives back unchanged: a snapshot must not change a plan. */
  const checkState = (value, path, seen) => {
    if (value === null || typeof value === 'string' || typeof value === 'boolean') return;
    if (typeof value === 'number') {
      if (value - value === 0) return;
      throw stateFault(path, String(value));
    }
    if (typeof value !== 'object') throw stateFault(path, kind(value));
    if (isLasting(value))
      throw stateFault(path, 'an object of the module, the tables or the parameters');
    if (seen.has(value)) throw stateFault(path, 'an object that the state holds twice');
    seen.add(value);
    if (!Object.isExtensible(value)) throw stateFault(path, 'a frozen object');
    const list = Array.isArray(value);
    const prototype = getPrototypeOf(value);
    if (prototype !== (list ? Array.prototype : Object.prototype))
      throw stateFault(path, kind(value));
    const keys = ownKeys(value);
    if (list && keys.length !== value.length + 1)
      throw stateFault(path, 'a list with holes or names');
    for (const key of keys) {
      if (list && key === 'length') continue;
      const at = list ? `${path}[${String(key)}]` : `${path}.${String(key)}`;
      const { value: held, enumerable, get, set } = getOwnPropertyDescriptor(value, key);
      if (typeof key === 'symbol' || !enumerable || get !== undefined || set !== undefined) {
        throw stateFault(at, 'a property that JSON does not keep');
      }
      checkState(held, at, seen);
    }
  };
  const stateFault = (path, got) =>
    new PolicyFault('LS_POLICY_STATE', `expected ${path} to be JSON, got ${got}`);
  const kind = (value) => {
    if (value === null || value === undefined || typeof value === 'number') return String(value);
    if (typeof value !== 'object') return `a ${typeof value}`;
    const made = value.constructor;
    return `a ${typeof made === 'function' && made.name ? made.name : 'object without prototype'}`;
  };

  /** An empty sequence: tokens seen, tokens in the open segment, whether a cut waits for `align`. */
  const begin = () => {
    settleScratch();
    const state = policy.start();
    checkState(state, 'state', new Set());
    return { position: 0, length: 0, asked: false, state };
  };

  // JSON has no -0: it is written as a text, and texts that begin alike get one more mark.
  const MARK = '\u0000';
  const written0 = (_key, value) => {
    if (typeof value === 'string') return value.startsWith(MARK) ? MARK + value : value;
    return Object.is(value, -0) ? `${MARK}-0` : value;
  };
  const read0 = (_key, value) => {
    if (typeof value !== 'string' || !value.startsWith(MARK)) return value;
    return value === `${MARK}-0` ? -0 : value.slice(1);
  };
  const snapshot = (sequence) => {
    checkState(sequence.state, 'state', new Set());
    return JSON.stringify(sequence, written0);
  };
  const restore = (text) => {
    const { position, length, asked, state } = JSON.parse(text, read0);
    return { position, length, asked, state };
  };

  // ---- What a policy's modules import from lockstep.

  const origins = new WeakMap();
  const setOrigin = (value, origin) => {
    apply(plainWeakMapSet, origins, [value, origin]);
    return value;
  };
  const originOf = (value) => (isObject(value) ? origins.get(value) : undefined);

  /** Defaults under what is given; both were checked when the policy was made. */
  const merged = (defaults, given) => {
    const params = {};
    for (const key of Object.keys(defaults)) {
      params[key] = given[key] === undefined ? defaults[key] : given[key];
    }
    return params;
  };

  const definePolicy = (definition) => {
    keep(definition);
    const { name } = definition;
    const defaults = definition.params ?? {};
    const revive = (params) => {
      keep(params);
      let context;
      let known;
      const contextOf = (own) => {
        known = own;
        context = freeze({ params, tables: own });
        return context;
      };
      const made = {
        kind: 'policy',
        name,
        params,
        start: () => (definition.start === undefined ? {} : definition.start(params)),
        push: (state, token, own) =>
          definition.push(state, token, own === known ? context : contextOf(own)),
        cut: (state, own) => {
          if (definition.cut !== undefined) {
            definition.cut(state, own === known ? context : contextOf(own));
          }
        },
      };
      return setOrigin(freeze(made), origin);
    };
    const origin = { name, policies: [], revive };
    const factory = (given = {}) => revive(merged(defaults, given));
    return setOrigin(factory, origin);
  };

  /** A policy that holds policies: lists of their states and tables, in their order. */
  const defineCombinator = (name, _module, combination) => {
    const make = (params, policies) => {
      const { start, push, cut } = keep(combination(params));
      const trees = policies.map((held) => ({ name: held.name, params: held.params }));
      const tablesOf = (own, i) => own[i] ?? null;
      const made = {
        kind: 'policy',
        name,
        params: { ...params, policies: trees },
        start: () => ({ own: start(), policies: policies.map((held) => held.start()) }),
        push: (state, token, own) => {
          let asked = false;
          for (let i = 0; i < policies.length; i++) {
            const answer = policies[i].push(state.policies[i], token, tablesOf(own, i));
            if (typeof answer !== 'boolean') return answer;
            if (answer) asked = true;
          }
          return push(state.own, asked);
        },
        cut: (state, own) => {
          cut(state.own);
          policies.forEach((held, i) => {
            held.cut(state.policies[i], tablesOf(own, i));
          });
        },
      };
      keep(made.params);
      return setOrigin(freeze(made), { ...origin, policies });
    };
    const origin = { name, policies: [], revive: make };
    return { make, origin };
  };

  /** Find the policy called `name` among a module's exports and make it with these parameters. */
  const revive = (exports, name, params, policies) => {
    for (const value of exports) {
      const origin = originOf(value);
      if (origin !== undefined && origin.name === name) return origin.revive(params, policies);
    }
    throw new PolicyFault(
      'LS_POLICY_LOAD',
      `expected the module of the policy ${name} to export it, got no such export`,
    );
  };

  /** Token ids as a set, made once for each list of the tables. */
  const sets = new WeakMap();
  const has = (list, token) => {
    let set = sets.get(list);
    if (set === undefined) {
      // Lists of the tables cannot change; others are looked through each time.
      if (!isLasting(list)) return list.includes(token);
      set = new Set(list);
      apply(plainWeakMapSet, sets, [list, set]);
    }
    return set.has(token);
  };

  /** What follows from a policy's tables, computed once and frozen. */
  const derivations = new WeakMap();
  let latest = { source: undefined, compute: undefined, value: undefined };
  const derived = (source, compute) => {
    if (source === latest.source && compute === latest.compute) return latest.value;
    let known = derivations.get(source);
    if (known === undefined) {
      // Objects that do not outlive the call may change.
      if (!isLasting(source)) return compute(source);
      known = new Map();
      apply(plainWeakMapSet, derivations, [source, known]);
    }
    let value = known.get(compute);
    if (value === undefined) {
      value = compute(source);
      seal([value], false);
      apply(plainMapSet, known, [compute, value]);
    }
    latest = { source, compute, value };
    return value;
  };

  /**
   * For variables of an outer function that an inner one writes: the call in which the outer function
   * ran, and a fault where a later call writes them.
   */
  const activation = () => call;
  const written = (then, name, place) => {
    if (then === call) return;
    throw new PolicyFault(
      'LS_POLICY_MEMORY',
      `writes to ${name} (${place}), which an earlier call made and which outlives it`,
    );
  };

  /** As a `catch` begins: what an engine throws, and when its limits are reached, is not to be seen. */
  const caught = () => {
    if (phase === 'run') throw new Forbidden('an error that it caught');
  };

  const refuseAlways = (name) => (path, expected) => {
    throw new PolicyFault('LS_POLICY_PARAMS', `${name}.${path}: expected ${expected}`);
  };
  class LockstepError extends Error {}
  const kit = {
    definePolicy,
    defineCombinator,
    withOrigin: setOrigin,
    expectPolicy: () => {},
    refusal: refuseAlways,
    LockstepError,
    originOf,
    revive,
    has,
    derived,
    keep,
    activation,
    written,
    caught,
    install: (made) => {
      policy = made;
    },
  };
  for (const value of Object.values(kit)) freeze(value);
  freeze(kit);

  // ---- What the outside calls.

  /** status or answer's length, handle, index and token at work; then handle, count, token, ... */
  let cells;
  const HEADER = 4;
  const sequences = new Map();
  let handles = 0;

  const idle = () => {
    cells[1] = -1;
    cells[2] = -1;
    cells[3] = -1;
  };
  const find = (handle) => {
    const sequence = sequences.get(handle);
    if (sequence !== undefined) return sequence;
    throw new PolicyFault(
      'LS_PLAN_CLOSED',
      'expected an open sequence, got one that is closed or failed',
    );
  };
  const addSequence = (sequence) => {
    handles += 1;
    apply(plainMapSet, sequences, [handles, sequence]);
    return String(handles);
  };

  /**
   * Tokens of one sequence, cells [from, from + count); its cuts go to cells [to, ...). Returns their end.
   *
   * A request at length < min is dropped; otherwise the cut falls at the first length >= the present one
   * that align divides, requests meanwhile being ignored; max forces it.
   */
  const run = (handle, from, count, to) => {
    cells[1] = handle;
    const sequence = find(handle);
    const { state } = sequence;
    const { min, max, align, vocabulary } = limits;
    const own = tables;
    let { position, length, asked } = sequence;
    let end = to;
    for (let i = from; i < from + count; i++) {
      const token = cells[i];
      cells[2] = position;
      cells[3] = token;
      if (!(token >= 0 && token < vocabulary)) {
        throw new PolicyFault(
          'LS_PLAN_TOKEN',
          `expected token ids from 0 to ${vocabulary - 1}, got ${token}`,
        );
      }
      call += 1;
      if (scratchBytes > 0) settleScratch();
      const asks = policy.push(state, token, own);
      if (asks !== true && asks !== false) {
        throw new PolicyFault(
          'LS_POLICY_RESULT',
          `expected push to return a boolean, got ${kind(asks)}`,
        );
      }
      position += 1;
      length += 1;
      if (asks && length >= min) asked = true;
      if (length < max && !(asked && length % align === 0)) continue;
      length = 0;
      asked = false;
      policy.cut(state, own);
      checkState(state, 'state', new Set());
      cells[end] = position;
      end += 1;
    }
    sequence.position = position;
    sequence.length = length;
    sequence.asked = asked;
    return end;
  };

  /** Answers are never longer than what they answer, so they overwrite it from the left. */
  const push = () => {
    const end = HEADER + cells[0];
    let to = HEADER;
    for (let from = HEADER; from < end; ) {
      const handle = cells[from];
      const count = cells[from + 1];
      let last;
      let done = false;
      try {
        last = run(handle, from + 2, count, to + 1);
        done = true;
      } finally {
        // Its state may be half changed.
        if (!done) apply(plainMapDelete, sequences, [handle]);
      }
      cells[to] = last - to - 1;
      to = last;
      from += 2 + count;
    }
    idle();
    cells[0] = to - HEADER;
    return '';
  };

  const operations = {
    cells: (buffer) => {
      cells = new Int32Array(buffer);
      idle();
      return '';
    },
    policy: (make) => {
      make(kit);
      if (policy === undefined) {
        throw new PolicyFault('LS_POLICY_LOAD', 'offers no policy');
      }
      keep(policy);
      seal(gathered, false);
      gathered = [];
      phase = 'run';
      return '';
    },
    load: (text) => {
      const given = JSON.parse(text);
      tables = sealJson(given.tables);
      limits = freeze(given.limits);
      return '';
    },
    describe: () => JSON.stringify({ name: policy.name, params: policy.params }),
    open: () => addSequence(begin()),
    push,
    where: (handle) => {
      const { position, length } = find(Number(handle));
      return `${position},${length}`;
    },
    snapshot: (handle) => snapshot(find(Number(handle))),
    restore: (text) => addSequence(restore(text)),
    free: (handle) => {
      apply(plainMapDelete, sequences, [Number(handle)]);
      return '';
    },
  };
  freeze(operations);

  /** An error's code and text. */
  const described = (error) => {
    // quickjs throws null where no memory is left even for an error.
    if (error === null) return ['LS_POLICY_LIMIT', 'takes more memory than it may, or throws null'];
    if (error instanceof PolicyFault) return [error.code, error.message];
    if (error instanceof Forbidden) {
      return ['LS_POLICY_FORBIDDEN', `reads ${error.what}, which no policy may read`];
    }
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const says = (part) => text.includes(part);
    if (error instanceof ReferenceError) {
      const name = text.slice('ReferenceError: '.length).split(' is not defined')[0];
      const bare = name.startsWith("'") ? name.slice(1, -1) : name;
      if (outsideNames.includes(bare)) {
        return ['LS_POLICY_FORBIDDEN', `reads ${bare}, which no policy may read`];
      }
    }
    if (says('call stack') || says('stack overflow')) {
      return ['LS_POLICY_LIMIT', 'calls itself without end'];
    }
    if (memoryWords.some(says)) return ['LS_POLICY_LIMIT', 'takes more memory than it may'];
    if (error instanceof TypeError && frozenWords.some(says)) {
      return [
        'LS_POLICY_MEMORY',
        `writes to an object that outlives the call, or to its tables or parameters (${text})`,
      ];
    }
    return ['LS_POLICY_THREW', `threw ${text}`];
  };
  const memoryWords = [
    'out of memory',
    'invalid array length',
    'Invalid array length',
    'invalid string length',
    'string too long',
    'invalid array buffer length',
    'too large to allocate',
    'array too large',
  ];
  const frozenWords = [
    'read-only',
    'not extensible',
    'not configurable',
    'could not delete',
    'cannot delete',
    'cannot add property',
    'is not writable',
  ];

  /** What was thrown may throw when it is asked for its text. */
  const safely = (describe, error) => {
    try {
      return describe(error);
    } catch {
      return ['LS_POLICY_THREW', 'threw something without a text'];
    }
  };

  return function invoke(operation, argument) {
    try {
      if (operation !== 'push') call += 1;
      return operations[operation](argument);
    } catch (error) {
      const [code, message] = safely(described, error);
      const report = { code, message, index: cells[2], token: cells[3] };
      idle();
      cells[0] = -1;
      return JSON.stringify({ error: report });
    }
  };
})();
