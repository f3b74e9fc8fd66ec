"use strict";
(() => {
  var __defProp = Object.defineProperty;
  var __export = (target, all) => {
    for (var name in all)
      __defProp(target, name, { get: all[name], enumerable: true });
  };

  // lockstep:planner/globals
  var allowedGlobals = ["undefined", "NaN", "Infinity", "isNaN", "isFinite", "parseInt", "parseFloat", "Object", "Array", "String", "Number", "Boolean", "BigInt", "Symbol", "Math", "JSON", "Reflect", "Proxy", "RegExp", "Map", "Set", "WeakMap", "WeakSet", "Iterator", "Error", "AggregateError", "EvalError", "RangeError", "ReferenceError", "SyntaxError", "TypeError", "URIError", "InternalError", "ArrayBuffer", "DataView", "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array", "Uint32Array", "Float32Array", "Float64Array", "BigInt64Array", "BigUint64Array"];
  var exactMath = ["abs", "ceil", "clz32", "floor", "fround", "imul", "max", "min", "round", "sign", "sqrt", "trunc", "E", "LN10", "LN2", "LOG10E", "LOG2E", "PI", "SQRT1_2", "SQRT2"];
  var localeMethods = ["localeCompare", "toLocaleString", "toLocaleDateString", "toLocaleTimeString", "toLocaleLowerCase", "toLocaleUpperCase"];
  var unicodeMethods = ["normalize", "toLowerCase", "toUpperCase"];
  var outsideNames = ["Buffer", "TextDecoder", "TextEncoder", "URL", "WebSocket", "XMLHttpRequest", "clearTimeout", "console", "crypto", "document", "exports", "fetch", "global", "module", "navigator", "os", "performance", "process", "queueMicrotask", "require", "self", "setImmediate", "setInterval", "setTimeout", "std", "structuredClone", "window"];

  // lockstep:planner/harden
  var Forbidden = class extends Error {
    what;
    constructor(what) {
      super(`reads ${what}`);
      this.what = what;
    }
  };
  function harden(realm2) {
    forbidConstructors();
    forbidMembers(Math, "Math", (name) => !exactMath.includes(name));
    for (const owner of [Object, Array, String, Number, BigInt]) {
      forbidMembers(owner.prototype, `${owner.name}.prototype`, (name) => localeMethods.includes(name));
    }
    for (const holder of [Math, JSON, Reflect]) Object.freeze(holder);
    for (const name of Object.getOwnPropertyNames(realm2)) {
      if (allowedGlobals.includes(name)) {
        const value = realm2[name];
        Reflect.defineProperty(realm2, name, { value, writable: false, configurable: false });
      } else {
        Reflect.defineProperty(realm2, name, { get: refusing(name), configurable: false });
      }
    }
  }
  function harderStill() {
    forbidMembers(RegExp.prototype, "a regular expression outside prepare", (name) => name === "exec");
    forbidMembers(String.prototype, "String.prototype", (name) => unicodeMethods.includes(name));
    for (const owner of [Object, Array, String, Number, Boolean, Map, Set, RegExp, Error]) {
      Object.freeze(owner.prototype);
      Object.freeze(owner);
    }
  }
  function forbiddenName(error) {
    if (error instanceof Forbidden) return error.what;
    if (!(error instanceof ReferenceError)) return void 0;
    const [name] = error.message.split(" is not defined");
    return outsideNames.includes(name) ? name : void 0;
  }
  function forbidMembers(owner, shown, which) {
    for (const name of Object.getOwnPropertyNames(owner)) {
      if (!which(name)) continue;
      const refuse = refusing(shown.includes(" ") ? shown : `${shown}.${name}`);
      Reflect.defineProperty(owner, name, { value: refuse, writable: false, configurable: false });
    }
  }
  function forbidConstructors() {
    const kinds = [() => {
    }, function* () {
    }, async () => {
    }, async function* () {
    }];
    for (const kind2 of kinds) {
      const prototype = Object.getPrototypeOf(kind2);
      const value = refusing("Function (code made of strings)");
      Reflect.defineProperty(prototype, "constructor", { value, writable: false, configurable: false });
    }
  }
  function refusing(what) {
    return () => {
      throw new Forbidden(what);
    };
  }

  // lockstep:planner/harden-now
  var realm = globalThis;
  harden(realm);

  // lockstep:planner/core
  var PolicyFault = class extends Error {
    code;
    constructor(code, message) {
      super(message);
      this.code = code;
    }
  };
  function begin(policy) {
    const state = policy.start();
    checkState(state, "state");
    return { position: 0, length: 0, asked: false, state };
  }
  function advance(policy, tables, limits, sequence, token) {
    const asks = policy.push(sequence.state, token, tables);
    if (typeof asks !== "boolean") {
      throw new PolicyFault("LS_POLICY_RESULT", `expected push to return a boolean, got ${kind(asks)}`);
    }
    sequence.position += 1;
    sequence.length += 1;
    if (asks && sequence.length >= limits.min) sequence.asked = true;
    const due = sequence.asked && sequence.length % limits.align === 0;
    if (!due && sequence.length < limits.max) return false;
    sequence.length = 0;
    sequence.asked = false;
    policy.cut(sequence.state, tables);
    return true;
  }
  function snapshot(sequence) {
    checkState(sequence.state, "state");
    return JSON.stringify(sequence);
  }
  function restore(text) {
    const { position, length, asked, state } = JSON.parse(text);
    return { position, length, asked, state };
  }
  function checkState(value, path) {
    if (value === null || typeof value === "string" || typeof value === "boolean") return;
    if (typeof value === "number" && value - value === 0) return;
    if (Array.isArray(value)) {
      for (let i = 0; i < value.length; i++) checkState(value[i], `${path}[${i}]`);
      return;
    }
    if (typeof value === "object") {
      const prototype = Object.getPrototypeOf(value);
      if (prototype === Object.prototype || prototype === null) {
        for (const key of Object.keys(value)) {
          checkState(value[key], `${path}.${key}`);
        }
        return;
      }
    }
    throw new PolicyFault("LS_POLICY_STATE", `expected ${path} to be JSON, got ${kind(value)}`);
  }
  function kind(value) {
    if (value === null || value === void 0 || typeof value === "number") return String(value);
    if (typeof value !== "object") return `a ${typeof value}`;
    return `a ${value.constructor?.name ?? "object without prototype"}`;
  }

  // lockstep:planner/abi
  function makeAbi(policy) {
    const sequences = /* @__PURE__ */ new Map();
    let tables = null;
    let limits = { min: 1, max: 1, align: 1, vocabulary: 0 };
    let handles = 0;
    let at = [-1, -1, -1];
    const idle = () => {
      at[0] = at[1] = at[2] = -1;
    };
    const failure = (error) => {
      const { code, message } = described(error);
      const report = { code, message, index: at[1], token: at[2] };
      idle();
      return JSON.stringify({ error: report });
    };
    const guarded = (run2) => {
      try {
        return run2();
      } catch (error) {
        return failure(error);
      }
    };
    const find = (handle) => {
      const sequence = sequences.get(handle);
      if (sequence !== void 0) return sequence;
      throw new PolicyFault("LS_PLAN_CLOSED", "expected an open sequence, got one that is closed or failed");
    };
    const add = (sequence) => {
      handles += 1;
      sequences.set(handles, sequence);
      return String(handles);
    };
    const run = (cells, handle, from, count, to) => {
      const sequence = find(handle);
      const { vocabulary } = limits;
      at[0] = handle;
      let end2 = to;
      for (let i = from; i < from + count; i++) {
        const token = cells[i];
        at[2] = token;
        at[1] = sequence.position;
        if (!(token >= 0 && token < vocabulary && token % 1 === 0)) {
          throw new PolicyFault("LS_PLAN_TOKEN", `expected token ids from 0 to ${vocabulary - 1}, got ${token}`);
        }
        if (advance(policy, tables, limits, sequence, token)) {
          cells[end2] = sequence.position;
          end2 += 1;
        }
      }
      return end2;
    };
    const exchange = (cells, length) => {
      let to = 0;
      for (let from = 0; from < length; ) {
        const handle = cells[from];
        const count = cells[from + 1];
        let end2;
        try {
          end2 = run(cells, handle, from + 2, count, to + 1);
        } catch (error) {
          sequences.delete(handle);
          throw error;
        }
        cells[to] = end2 - to - 1;
        to = end2;
        from += 2 + count;
      }
      idle();
      return to;
    };
    return { describe: () => JSON.stringify({ name: policy.name, params: policy.params }), load: (tablesJson, limitsJson) => guarded(() => {
      tables = deepFrozen(JSON.parse(tablesJson));
      limits = JSON.parse(limitsJson);
      harderStill();
      return "";
    }), open: () => guarded(() => add(begin(policy))), push: (batch) => guarded(() => {
      const cells = JSON.parse(`[${batch}]`);
      return cells.slice(0, exchange(cells, cells.length)).join();
    }), where: (handle) => guarded(() => {
      const { position, length } = find(handle);
      return `${position},${length}`;
    }), snapshot: (handle) => guarded(() => snapshot(find(handle))), restore: (text) => guarded(() => add(restore(text))), free: (handle) => {
      sequences.delete(handle);
      return "";
    }, progress: () => `${at[1]},${at[2]}`, watch: (cells) => {
      at = cells;
      idle();
    }, exchange: (cells, length) => {
      try {
        return exchange(cells, length);
      } catch (error) {
        return failure(error);
      }
    } };
  }
  var outOfMemory = ["out of memory", "Invalid array length", "Invalid string length", "Array buffer allocation failed", "invalid array length", "invalid string length", "string too long", "invalid array buffer length", "Map maximum size exceeded", "Set maximum size exceeded"];
  function described(error) {
    if (error === null) {
      return { code: "LS_POLICY_LIMIT", message: "takes more memory than it may, or throws null" };
    }
    if (error instanceof PolicyFault) return { code: error.code, message: error.message };
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const name = forbiddenName(error);
    if (name !== void 0) {
      return { code: "LS_POLICY_FORBIDDEN", message: `reads ${name}, which no policy may read` };
    }
    const says = (part) => text.includes(part);
    if (says("call stack") || says("stack overflow")) {
      return { code: "LS_POLICY_LIMIT", message: "calls itself without end" };
    }
    if (outOfMemory.some(says)) {
      return { code: "LS_POLICY_LIMIT", message: "takes more memory than it may" };
    }
    return { code: "LS_POLICY_THREW", message: `threw ${text}` };
  }
  function deepFrozen(value) {
    if (typeof value !== "object" || value === null) return value;
    for (const item of Object.values(value)) deepFrozen(item);
    return Object.freeze(value);
  }

  // lockstep:planner/install
  function install(realm2, policy) {
    Object.defineProperty(realm2, "lockstep", { value: Object.freeze(makeAbi(policy)) });
  }

  // lockstep:policies/policy
  var ORIGIN = /* @__PURE__ */ Symbol.for("lockstep.policy.origin");
  function originOf(value) {
    if (typeof value !== "object" && typeof value !== "function" || value === null) return void 0;
    return value[ORIGIN];
  }
  function seal(policy, origin3) {
    Object.defineProperty(policy, ORIGIN, { value: origin3 });
    return Object.freeze(policy);
  }
  var sets = /* @__PURE__ */ new WeakMap();
  function has(list, token) {
    let set = sets.get(list);
    if (set === void 0) {
      set = new Set(list);
      sets.set(list, set);
    }
    return set.has(token);
  }

  // lockstep:policies/revive
  function revive(exports, name, params, policies) {
    for (const value of Object.values(exports)) {
      const origin3 = originOf(value);
      if (origin3?.name === name) return origin3.revive(params, policies);
    }
    throw new Error(`expected the module of the policy ${name} to export it, got no such export`);
  }

  // lockstep:policies/combinators/after
  var after_exports = {};
  __export(after_exports, {
    after: () => after
  });

  // lockstep:errors
  var LockstepError = class extends Error {
    name = "LockstepError";
    code;
    mend;
    field;
    constructor(code, message, options = {}) {
      super(message, options.cause === void 0 ? void 0 : { cause: options.cause });
      this.code = code;
      this.mend = options.mend;
      this.field = options.field;
    }
    toJSON() {
      return { code: this.code, message: this.message, ...this.mend === void 0 ? {} : { mend: this.mend }, ...this.field === void 0 ? {} : { field: this.field } };
    }
  };

  // lockstep:policies/params
  function checkParams(name, defaults, given) {
    const refuse = refusal(name, given);
    if (typeof given !== "object" || given === null || Array.isArray(given)) {
      return refuse("", "an object of parameters");
    }
    for (const key of Object.keys(given)) {
      if (!Object.hasOwn(defaults, key)) {
        refuse(key, `one of the parameters ${Object.keys(defaults).join(", ") || "(none)"}`);
      }
    }
    const merged = {};
    for (const [key, fallback] of Object.entries(defaults)) {
      const value = given[key];
      merged[key] = freeze(value === void 0 ? fallback : sameType(value, fallback, key, refuse));
    }
    return Object.freeze(merged);
  }
  function refusal(name, params) {
    return (path, expected) => {
      const at = path === "" ? name : `${name}.${path}`;
      throw new LockstepError("LS_POLICY_PARAMS", `${at}: expected ${expected}, got ${printed(valueAt(params, path))}`, { mend: `Correct the parameters of ${name}(...).`, ...path === "" ? {} : { field: path } });
    };
  }
  function sameType(value, fallback, path, refuse) {
    const expected = kindOf(fallback);
    if (kindOf(value) !== expected) refuse(path, expected);
    if (Array.isArray(value)) {
      const [first] = fallback;
      value.forEach((item, i) => {
        const inner = `${path}[${i}]`;
        if (first === void 0) plain(item, inner, refuse);
        else sameType(item, first, inner, refuse);
      });
    } else plain(value, path, refuse);
    return value;
  }
  function plain(value, path, refuse) {
    const kind2 = kindOf(value);
    if (kind2 === "a list") {
      value.forEach((item, i) => {
        plain(item, `${path}[${i}]`, refuse);
      });
    } else if (kind2 === "an object") {
      for (const [key, item] of Object.entries(value)) plain(item, `${path}.${key}`, refuse);
    } else if (kind2 === "something else") {
      refuse(path, "JSON without floating-point numbers");
    }
  }
  function kindOf(value) {
    if (value === null) return "null";
    if (Array.isArray(value)) return "a list";
    if (typeof value === "number") return Number.isSafeInteger(value) ? "an integer" : "something else";
    if (typeof value === "string") return "a string";
    if (typeof value === "boolean") return "a boolean";
    if (typeof value !== "object") return "something else";
    const prototype = Object.getPrototypeOf(value);
    return prototype === null || Object.getPrototypeOf(prototype) === null ? "an object" : "something else";
  }
  function valueAt(params, path) {
    let value = params;
    for (const step of path.split(/[.[\]]+/)) {
      if (step !== "") value = value?.[step];
    }
    return value;
  }
  function printed(value) {
    if (typeof value === "string") return JSON.stringify(value);
    if (typeof value === "function") return "a function";
    if (typeof value !== "object" || value === null) return String(value);
    const text = JSON.stringify(value) ?? String(value);
    return text.length > 80 ? `${text.slice(0, 77)}...` : text;
  }
  function freeze(value) {
    if (Array.isArray(value)) return Object.freeze(value.map(freeze));
    if (typeof value !== "object" || value === null) return value;
    return Object.freeze(Object.fromEntries(Object.entries(value).map(([key, item]) => [key, freeze(item)])));
  }

  // lockstep:policies/combinators/combine
  function defineCombinator(name, module, combination) {
    const make3 = (params, policies) => {
      const { start, push, cut } = combination(params);
      const trees = policies.map((policy) => ({ name: policy.name, params: policy.params }));
      return seal({ kind: "policy", name, params: Object.freeze({ ...params, policies: Object.freeze(trees) }), prepare: (vocabulary) => policies.map((policy) => policy.prepare(vocabulary)), start: () => ({ own: start(), policies: policies.map((policy) => policy.start()) }), push: (state, token, tables) => {
        const held = state;
        let asked = false;
        for (let i = 0; i < policies.length; i++) {
          const answer = policies[i]?.push(held.policies[i], token, tablesOf(tables, i));
          if (typeof answer !== "boolean") return answer;
          if (answer) asked = true;
        }
        return push(held.own, asked);
      }, cut: (state, tables) => {
        const held = state;
        cut(held.own);
        policies.forEach((policy, i) => {
          policy.cut(held.policies[i], tablesOf(tables, i));
        });
      } }, { ...origin3, policies });
    };
    const origin3 = { name, module, policies: [], revive: make3 };
    return { make: make3, origin: origin3 };
  }
  function withOrigin(make3, origin3) {
    Object.defineProperty(make3, ORIGIN, { value: origin3 });
    return Object.freeze(make3);
  }
  function expectPolicy(combinator, value, index) {
    if (value?.kind === "policy" && originOf(value) !== void 0) return;
    const hint = originOf(value) === void 0 ? "" : " (a factory: call it, as in sentences())";
    throw new LockstepError("LS_POLICY_PARAMS", `${combinator}: expected argument ${index + 1} to be a policy, got ${typeof value}${hint}`, { mend: `Give ${combinator} policies such as sentences() or paragraphs().`, field: `[${index}]` });
  }
  function tablesOf(tables, index) {
    return tables[index] ?? null;
  }

  // lockstep:policies/combinators/after
  var { make, origin } = defineCombinator("after", "", (params) => {
    const tokens = params["tokens"];
    return { start: () => ({ length: 0 }), push: (state, asked) => {
      const own = state;
      own.length += 1;
      return asked && own.length >= tokens;
    }, cut: (state) => {
      state.length = 0;
    } };
  });
  var after = withOrigin((policy, tokens) => {
    expectPolicy("after", policy, 0);
    if (!Number.isSafeInteger(tokens) || tokens < 1) {
      refusal("after", { tokens })("tokens", "an integer >= 1");
    }
    return make({ tokens }, [policy]);
  }, origin);

  // lockstep:policies/combinators/any-of
  var any_of_exports = {};
  __export(any_of_exports, {
    anyOf: () => anyOf
  });
  var { make: make2, origin: origin2 } = defineCombinator("anyOf", "", () => ({ start: () => ({}), push: (_state, asked) => asked, cut: () => {
  } }));
  var anyOf = withOrigin((...policies) => {
    if (policies.length === 0) {
      throw new LockstepError("LS_POLICY_PARAMS", "anyOf: expected at least one policy, got none", { mend: "Give anyOf policies such as sentences() or paragraphs()." });
    }
    policies.forEach((policy, i) => {
      expectPolicy("anyOf", policy, i);
    });
    return make2({}, policies);
  }, origin2);

  // lockstep:policies/delimiters/delimiters
  var delimiters_exports = {};
  __export(delimiters_exports, {
    delimiters: () => delimiters
  });

  // lockstep:policies/define
  function definePolicy(definition) {
    checkDefinition(definition);
    const { name, check } = definition;
    const defaults = definition.params ?? {};
    const revive2 = (params) => {
      const own = params;
      let context;
      const contextOf = (tables) => {
        if (context?.tables !== tables) context = { params: own, tables };
        return context;
      };
      return seal({ kind: "policy", name, params, prepare: (vocabulary) => definition.prepare?.(vocabulary, own) ?? null, start: () => definition.start === void 0 ? {} : definition.start(own), push: (state, token, tables) => definition.push(state, token, contextOf(tables)), cut: (state, tables) => definition.cut?.(state, contextOf(tables)) }, origin3);
    };
    const origin3 = { name, module: definition.module, policies: [], revive: revive2 };
    const factory = (given = {}) => {
      const params = checkParams(name, defaults, given);
      check?.(params, refusal(name, params));
      return revive2(params);
    };
    Object.defineProperty(factory, ORIGIN, { value: origin3 });
    return Object.freeze(Object.assign(factory, { policyName: name }));
  }
  function checkDefinition(definition) {
    const { name, push } = definition;
    const mend = "See docs/policies.md for a policy in 20 lines.";
    if (typeof name !== "string" || !/^[A-Za-z][A-Za-z0-9-]*$/.test(name)) {
      throw new LockstepError("LS_POLICY_DEFINITION", `definePolicy: expected name to be a letter and then letters, digits or '-', got ${JSON.stringify(name)}`, { mend, field: "name" });
    }
    if (typeof push !== "function") {
      throw new LockstepError("LS_POLICY_DEFINITION", `definePolicy: expected push of ${name} to be a function, got ${typeof push}`, { mend, field: "push" });
    }
  }

  // lockstep:policies/text/machine
  function numbered(machine) {
    return minimised(explored(machine));
  }
  function explored(machine) {
    const ids = /* @__PURE__ */ new Map();
    const found = [];
    const id = (state) => {
      const key = JSON.stringify(state);
      const known = ids.get(key);
      if (known !== void 0) return known;
      ids.set(key, found.length);
      found.push(state);
      return found.length - 1;
    };
    id(machine.start);
    for (let i = 0; i < found.length; i++) {
      const state = found[i];
      for (let c = 0; c < machine.classes; c++) id(machine.step(state, c));
      id(machine.settle?.(state) ?? state);
      id(machine.begin?.(state) ?? state);
    }
    const [start, ...others] = [...ids.keys()];
    const order = [start, ...others.sort()].map((key) => ids.get(key));
    const place = [];
    order.forEach((old, i) => {
      place[old] = i;
    });
    const numberOf = (state) => place[id(state)];
    const next = [];
    const settle = [];
    const begin2 = [];
    const asks = [];
    for (const old of order) {
      const state = found[old];
      for (let c = 0; c < machine.classes; c++) next.push(numberOf(machine.step(state, c)));
      settle.push(numberOf(machine.settle?.(state) ?? state));
      begin2.push(numberOf(machine.begin?.(state) ?? state));
      asks.push(machine.asks(state));
    }
    return { states: found.length, classes: machine.classes, next: Int32Array.from(next), settle: Int32Array.from(settle), begin: Int32Array.from(begin2), asks };
  }
  function minimised(machine) {
    const { states, classes } = machine;
    let block = machine.asks.map(Number);
    for (let count = 0; ; ) {
      const ids = /* @__PURE__ */ new Map();
      const refined = [];
      for (let s = 0; s < states; s++) {
        const key = [block[s], block[machine.settle[s]], block[machine.begin[s]]];
        for (let c = 0; c < classes; c++) key.push(block[machine.next[s * classes + c]]);
        const text = key.join();
        if (!ids.has(text)) ids.set(text, ids.size);
        refined.push(ids.get(text));
      }
      block = refined;
      if (ids.size === count) break;
      count = ids.size;
    }
    const first = [];
    block.forEach((b, s) => {
      if (first[b] === void 0) first[b] = s;
    });
    const to = (s) => block[s];
    return { states: first.length, classes, next: Int32Array.from(first.flatMap((s) => Array.from({ length: classes }, (_, c) => to(machine.next[s * classes + c])))), settle: Int32Array.from(first, (s) => to(machine.settle[s])), begin: Int32Array.from(first, (s) => to(machine.begin[s])), asks: first.map((s) => machine.asks[s]) };
  }

  // lockstep:policies/text/tables
  function compileText(vocabulary, machine) {
    const table = numbered(machine);
    const maps = new Maps(table);
    const members = /* @__PURE__ */ new Map();
    const classes = /* @__PURE__ */ new Map();
    for (let id = 0; id < vocabulary.size; id++) {
      let map = vocabulary.special(id) ? maps.restart : maps.begin;
      for (const character of vocabulary.special(id) ? "" : vocabulary.text(id)) {
        let read = classes.get(character);
        if (read === void 0) {
          read = machine.classify(character);
          classes.set(character, read);
        }
        map = maps.reading(map, read);
      }
      const list = members.get(map);
      if (list === void 0) members.set(map, [id]);
      else list.push(id);
    }
    const first = (ids) => ids[0];
    const sorted = [...members].sort(([, a], [, b]) => b.length - a.length || first(a) - first(b));
    return { states: table.states, asks: table.asks.flatMap((asks, s) => asks ? [s] : []), settle: [...table.settle], maps: sorted.map(([map]) => runs(maps.targets(map))), tokens: sorted.slice(1).map(([, ids]) => differences(ids)) };
  }
  var Maps = class {
    begin;
    restart;
    #machine;
    #ids = /* @__PURE__ */ new Map();
    #maps = [];
    #readings = [];
    constructor(machine) {
      this.#machine = machine;
      this.begin = this.#id(machine.begin);
      this.restart = this.#id(new Int32Array(machine.states));
    }
    targets(map) {
      return this.#maps[map];
    }
    reading(map, read) {
      const { classes, next } = this.#machine;
      const key = map * classes + read;
      const known = this.#readings[key];
      if (known !== void 0) return known;
      const id = this.#id(this.targets(map).map((state) => next[state * classes + read]));
      this.#readings[key] = id;
      return id;
    }
    #id(map) {
      const key = map.join();
      const known = this.#ids.get(key);
      if (known !== void 0) return known;
      this.#ids.set(key, this.#maps.length);
      this.#maps.push(map);
      return this.#maps.length - 1;
    }
  };
  function runs(targets) {
    const out = [];
    for (const target of targets) {
      if (out.at(-2) === target) out[out.length - 1] = out.at(-1) + 1;
      else out.push(target, 1);
    }
    return out;
  }
  function differences(ids) {
    return ids.map((id, i) => id - (ids[i - 1] ?? 0));
  }
  function pushText(state, token, tables) {
    const { classOf, next, states, asks } = unpacked(tables);
    const at = next[(classOf[token] ?? 0) * states + state.at];
    state.at = at;
    return asks[at] === true;
  }
  function cutText(state, tables) {
    state.at = tables.settle[state.at];
  }
  var cache = /* @__PURE__ */ new WeakMap();
  function unpacked(tables) {
    const known = cache.get(tables);
    if (known !== void 0) return known;
    const { states, maps, tokens } = tables;
    const next = [];
    for (const map of maps) {
      for (let i = 0; i < map.length; i += 2) {
        for (let n = map[i + 1]; n > 0; n--) next.push(map[i]);
      }
    }
    const classOf = [];
    tokens.forEach((differences2, i) => {
      let id = 0;
      for (const difference of differences2) {
        id += difference;
        while (classOf.length < id) classOf.push(0);
        classOf[id] = i + 1;
      }
    });
    const asks = new Array(states).fill(false);
    for (const state of tables.asks) asks[state] = true;
    const made = { states, classOf, next, asks };
    cache.set(tables, made);
    return made;
  }

  // lockstep:policies/delimiters/machine
  function stringMachine(strings) {
    const prefixes = /* @__PURE__ */ new Set([""]);
    for (const string of strings) {
      let prefix = "";
      for (const character of string) {
        prefix += character;
        prefixes.add(prefix);
      }
    }
    const characters2 = [...new Set(strings.join(""))].sort();
    const other = characters2.length;
    return { start: { suffix: "", found: false }, classes: characters2.length + 1, classify: (character) => {
      const known = characters2.indexOf(character);
      return known === -1 ? other : known;
    }, step: ({ suffix, found }, read) => {
      if (read === other) return { suffix: "", found };
      let next = suffix + characters2[read];
      const hit = strings.some((string) => next.endsWith(string));
      while (!prefixes.has(next)) next = [...next].slice(1).join("");
      return { suffix: next, found: found || hit };
    }, asks: ({ found }) => found, begin: ({ suffix }) => ({ suffix, found: false }) };
  }

  // lockstep:policies/delimiters/delimiters
  var delimiters = definePolicy({ name: "delimiters", module: "", params: { tokens: [], strings: [], pattern: "" }, check: ({ tokens, strings, pattern }, refuse) => {
    tokens.forEach((token, i) => {
      if (!Number.isSafeInteger(token) || token < 0) refuse(`tokens[${i}]`, "a token id (an integer >= 0)");
    });
    strings.forEach((string, i) => {
      if (typeof string !== "string" || string === "" || string.length > 64) {
        refuse(`strings[${i}]`, "a string of 1 to 64 characters");
      }
    });
    if (strings.length > 64) refuse("strings", "at most 64 strings");
    try {
      new RegExp(pattern, "u");
    } catch {
      refuse("pattern", "a regular expression");
    }
    if (tokens.length === 0 && strings.length === 0 && pattern === "") {
      refuse("", "at least one of tokens, strings and pattern");
    }
  }, prepare: (vocabulary, { tokens, strings, pattern }) => ({ tokens: matching(vocabulary, tokens, pattern), strings: strings.length === 0 ? null : compileText(vocabulary, stringMachine(strings)) }), start: () => ({ at: 0 }), push: (state, token, { tables }) => {
    const { strings, tokens } = tables;
    const completed = strings !== null && pushText(state, token, strings);
    return completed || has(tokens, token);
  } });
  function matching(vocabulary, tokens, pattern) {
    const wanted = new Set(tokens);
    const fits = pattern === "" ? void 0 : new RegExp(pattern, "u");
    return vocabulary.select((text, id) => wanted.has(id) || fits !== void 0 && !vocabulary.special(id) && fits.test(text));
  }

  // lockstep:policies/sentences/sentences
  var sentences_exports = {};
  __export(sentences_exports, {
    sentences: () => sentences
  });

  // lockstep:policies/sentences/machine
  var classNames = ["newline", "space", "letter", "digit", "stop", "bang", "ellipsis", "straight", "openQuote", "closeQuote", "apostrophe", "openBracket", "closeBracket", "dash", "mark"];
  var characters = { "\n": "newline", ".": "stop", "!": "bang", "?": "bang", "。": "bang", "．": "bang", "！": "bang", "？": "bang", "؟": "bang", "।": "bang", "…": "ellipsis", '"': "straight", "“": "openQuote", "„": "openQuote", "«": "openQuote", "「": "openQuote", "『": "openQuote", "”": "closeQuote", "»": "closeQuote", "」": "closeQuote", "』": "closeQuote", "'": "apostrophe", "’": "apostrophe", "‘": "apostrophe", "(": "openBracket", "[": "openBracket", "{": "openBracket", "（": "openBracket", ")": "closeBracket", "]": "closeBracket", "}": "closeBracket", "）": "closeBracket", "-": "dash", "–": "dash", "—": "dash" };
  var letter = /^[\p{L}\p{M}\uFFFD]$/u;
  var digit = /^\p{Nd}$/u;
  var gap = { kind: "gap", newlines: 0 };
  var word = { kind: "word", spelled: "" };
  var mark = { kind: "mark" };
  var end = { kind: "end" };
  function sentenceMachine(abbreviations2) {
    const known = new Set(abbreviations2);
    const prefixes = new Set(abbreviations2.flatMap((text) => Array.from(text, (_, i) => text.slice(0, i + 1))));
    const letters = [...new Set(`I${abbreviations2.join("")}`)].sort();
    const classes = [...classNames, ...letters.map((text) => ({ letter: text }))];
    const shortens = (spelled) => known.has(spelled) || spelled.length === 1 && spelled !== "I";
    const spell = (at, read) => {
      if (at.kind === "digit") return word;
      if (at.kind !== "word") return { kind: "word", spelled: read };
      const longer = at.spelled + read;
      return at.spelled !== "" && prefixes.has(longer) ? { kind: "word", spelled: longer } : word;
    };
    const step = ({ at, open }, read) => {
      if (typeof read !== "string") return { open, at: spell(at, read.letter) };
      switch (read) {
        case "newline":
        case "space":
          return white({ at, open }, read);
        case "letter":
          return { open, at: spell(at, "?") };
        case "digit":
          return { open, at: { kind: "digit" } };
        case "stop":
          return { open, at: stop(at) };
        case "bang":
          return { open, at: at.kind === "cut" && !at.spaced ? at : end };
        case "ellipsis":
          return { open, at: { kind: "ellipsis" } };
        case "straight":
          if (open === "quote") return { open: "none", at: closed(at) };
          if (open === "none" && opens(at)) return { open: "quote", at: gap };
          return { open, at: closed(at) };
        case "openQuote":
          return { open: open === "none" ? "quote" : open, at: gap };
        case "closeQuote":
          return { open: open === "quote" ? "none" : open, at: closed(at) };
        case "openBracket":
          if (open !== "none") return { open, at: gap };
          return { open: betweenSentences(at) ? "bracket" : "aside", at: gap };
        case "closeBracket":
          if (open === "aside") return { open: "none", at: word };
          return { open: open === "bracket" ? "none" : open, at: closed(at) };
        case "apostrophe":
          if (at.kind === "word") return { open, at: word };
          return { open, at: opens(at) ? gap : closed(at) };
        case "dash":
          return { open, at: gap };
        case "mark":
          return { open, at: mark };
      }
    };
    const stop = (at) => {
      switch (at.kind) {
        case "word":
          return shortens(at.spelled) ? mark : end;
        case "digit":
          return { kind: "point" };
        case "end":
        case "ellipsis":
          return { kind: "ellipsis" };
        case "gap":
        case "rest":
        case "blank":
        case "cut":
          return mark;
        default:
          return at.kind === "mark" ? end : mark;
      }
    };
    return { start: { open: "none", at: { kind: "cut", spaced: true } }, classes: classes.length, classify: (character) => {
      const name = characters[character];
      const own = letters.indexOf(character);
      if (own !== -1) return classNames.length + own;
      if (name !== void 0) return classNames.indexOf(name);
      if (character.trim() === "") return classNames.indexOf("space");
      if (letter.test(character)) return classNames.indexOf("letter");
      return classNames.indexOf(digit.test(character) ? "digit" : "mark");
    }, step: (state, read) => step(state, classes[read]), asks: ({ at, open }) => at.kind === "blank" || open === "none" && (at.kind === "end" || at.kind === "rest"), settle: (state) => {
      const { at, open } = state;
      if (at.kind === "blank") return { open, at: { kind: "cut", spaced: true } };
      if (open !== "none" || at.kind !== "end" && at.kind !== "rest") return state;
      return { open, at: { kind: "cut", spaced: at.kind === "rest" } };
    } };
  }
  function white({ at, open }, read) {
    if (at.kind === "cut") return { open, at: { kind: "cut", spaced: true } };
    if (at.kind === "blank") return { open, at };
    const newline = read === "newline" ? 1 : 0;
    const seen = (at.kind === "gap" || at.kind === "rest" ? at.newlines : 0) + newline;
    if (seen > 1) return { open: "none", at: { kind: "blank" } };
    const ends = at.kind === "end" || at.kind === "rest" || newline === 1 && (at.kind === "point" || at.kind === "ellipsis");
    return { open, at: { kind: ends ? "rest" : "gap", newlines: seen } };
  }
  function closed(at) {
    switch (at.kind) {
      case "end":
      case "rest":
      case "point":
      case "ellipsis":
        return end;
      case "cut":
        return at;
      default:
        return word;
    }
  }
  function betweenSentences(at) {
    return at.kind === "rest" || at.kind === "blank" || at.kind === "end" || at.kind === "cut";
  }
  function opens(at) {
    if (at.kind === "cut") return at.spaced;
    return at.kind === "gap" || at.kind === "blank" || at.kind === "rest";
  }

  // lockstep:policies/sentences/sentences
  var abbreviations = ["Mr", "Mrs", "Ms", "Messrs", "Mme", "Mlle", "Dr", "Ph", "Prof", "Rev", "Hon", "St", "Sr", "Jr", "Esq", "Gen", "Col", "Capt", "Lt", "Sgt", "Gov", "Sen", "Rep", "Pres", "vs", "viz", "etc", "cf", "al", "ca", "approx", "Fig", "fig", "Figs", "Eq", "Vol", "vol", "pp", "Inc", "Ltd", "Co", "Corp", "Jan", "Feb", "Aug", "Sept", "Oct", "Nov", "Dec"];
  var sentences = definePolicy({ name: "sentences", module: "", params: { abbreviations }, check: ({ abbreviations: abbreviations2 }, refuse) => {
    abbreviations2.forEach((text, i) => {
      if (!/^\p{L}{1,16}$/u.test(text)) {
        refuse(`abbreviations[${i}]`, "a word of 1 to 16 letters, without its full stop");
      }
    });
    if (abbreviations2.length > 200) refuse("abbreviations", "at most 200 words");
  }, prepare: (vocabulary, params) => compileText(vocabulary, sentenceMachine(params.abbreviations)), start: () => ({ at: 0 }), push: (state, token, { tables }) => pushText(state, token, tables), cut: (state, { tables }) => cutText(state, tables) });

  // policy
  install(realm, revive(any_of_exports, "anyOf", {}, [revive(after_exports, "after", { "tokens": 8 }, [revive(sentences_exports, "sentences", { "abbreviations": ["Mr", "Dr"] }, [])]), revive(delimiters_exports, "delimiters", { "tokens": [], "strings": ["\n\n"], "pattern": "" }, [])]));
})();
