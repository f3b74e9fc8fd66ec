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
      let end = to;
      for (let i = from; i < from + count; i++) {
        const token = cells[i];
        at[2] = token;
        at[1] = sequence.position;
        if (!(token >= 0 && token < vocabulary && token % 1 === 0)) {
          throw new PolicyFault("LS_PLAN_TOKEN", `expected token ids from 0 to ${vocabulary - 1}, got ${token}`);
        }
        if (advance(policy, tables, limits, sequence, token)) {
          cells[end] = sequence.position;
          end += 1;
        }
      }
      return end;
    };
    const exchange = (cells, length) => {
      let to = 0;
      for (let from = 0; from < length; ) {
        const handle = cells[from];
        const count = cells[from + 1];
        let end;
        try {
          end = run(cells, handle, from + 2, count, to + 1);
        } catch (error) {
          sequences.delete(handle);
          throw error;
        }
        cells[to] = end - to - 1;
        to = end;
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
  function seal(policy, origin) {
    Object.defineProperty(policy, ORIGIN, { value: origin });
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
      const origin = originOf(value);
      if (origin?.name === name) return origin.revive(params, policies);
    }
    throw new Error(`expected the module of the policy ${name} to export it, got no such export`);
  }

  // policy:repeats.ts
  var repeats_exports = {};
  __export(repeats_exports, {
    repeats: () => repeats
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
      return seal({ kind: "policy", name, params, prepare: (vocabulary) => definition.prepare?.(vocabulary, own) ?? null, start: () => definition.start === void 0 ? {} : definition.start(own), push: (state, token, tables) => definition.push(state, token, contextOf(tables)), cut: (state, tables) => definition.cut?.(state, contextOf(tables)) }, origin);
    };
    const origin = { name, module: definition.module, policies: [], revive: revive2 };
    const factory = (given = {}) => {
      const params = checkParams(name, defaults, given);
      check?.(params, refusal(name, params));
      return revive2(params);
    };
    Object.defineProperty(factory, ORIGIN, { value: origin });
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

  // policy:repeats.ts
  var repeats = definePolicy({
    name: "repeats",
    module: "",
    params: { memory: 4, ending: "e" },
    prepare: (vocabulary, { ending }) => ({
      ends: vocabulary.select((text) => text.toLowerCase().endsWith(ending))
    }),
    start: () => ({ recent: [] }),
    push: ({ recent }, token, { tables, params }) => {
      if (!has(tables.ends, token)) return false;
      const fresh = !recent.includes(token);
      recent.push(token);
      if (recent.length > params.memory) recent.shift();
      return fresh;
    }
  });

  // policy
  install(realm, revive(repeats_exports, "repeats", { "memory": 3, "ending": "e" }, []));
})();
