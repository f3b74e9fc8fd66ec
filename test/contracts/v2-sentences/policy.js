(function (lockstep) {
"use strict";
var __defProp = Object.defineProperty;
var __export = (target, all) => {
  for (var name in all)
    __defProp(target, name, { get: all[name], enumerable: true });
};

// lockstep
var after_exports = {};
__export(after_exports, {
  after: () => after
});

// lockstep
var refusal = lockstep.refusal;

// lockstep
var defineCombinator = lockstep.defineCombinator;
var expectPolicy = lockstep.expectPolicy;
var withOrigin = lockstep.withOrigin;

// lockstep
var { make: g, origin: s } = defineCombinator("after", "", (e) => {
  const t = lockstep.keep(e["tokens"]);
  return { start: () => ({ length: 0 }), push: (r2, o) => {
    const n = r2;
    n.length += 1;
    return o && n.length >= t;
  }, cut: (r2) => {
    r2.length = 0;
  } };
});
var after = withOrigin((e, t) => {
  expectPolicy("after", e, 0);
  if (!Number.isSafeInteger(t) || t < 1) {
    refusal("after", { tokens: t })("tokens", "an integer >= 1");
  }
  return g({ tokens: t }, [e]);
}, s);

// lockstep
var any_of_exports = {};
__export(any_of_exports, {
  anyOf: () => anyOf
});

// lockstep
var LockstepError = lockstep.LockstepError;

// lockstep
var { make: s2, origin: c } = defineCombinator("anyOf", "", () => ({ start: () => ({}), push: (t, e) => e, cut: () => {
} }));
var anyOf = withOrigin((...t) => {
  if (t.length === 0) {
    throw new LockstepError("LS_POLICY_PARAMS", "anyOf: expected at least one policy, got none", { mend: "Give anyOf policies such as sentences() or paragraphs()." });
  }
  t.forEach((e, r2) => {
    expectPolicy("anyOf", e, r2);
  });
  return s2({}, t);
}, c);

// lockstep
var fixed_exports = {};
__export(fixed_exports, {
  fixed: () => fixed
});

// lockstep
var definePolicy = lockstep.definePolicy;

// lockstep
var fixed = definePolicy({ name: "fixed", module: "", params: { size: 512 }, check: ({ size: e }, t) => {
  if (e < 1) t("size", "an integer >= 1");
}, start: () => ({ length: 0 }), push: (e, t, { params: i2 }) => {
  e.length += 1;
  return e.length >= i2.size;
}, cut: (e) => {
  e.length = 0;
} });

// lockstep
var sentences_exports = {};
__export(sentences_exports, {
  sentences: () => sentences
});

// lockstep
var derived = lockstep.derived;
var has = lockstep.has;

// lockstep
function numbered(t) {
  return y(k(t));
}
function k(t) {
  const a2 = /* @__PURE__ */ lockstep.keep(new Map());
  const r2 = lockstep.keep([]);
  const n = lockstep.keep((o) => {
    const e = JSON.stringify(o);
    const l2 = a2.get(e);
    if (l2 !== void 0) return l2;
    a2.set(e, r2.length);
    r2.push(o);
    return r2.length - 1;
  });
  n(t.start);
  for (let o = 0; o < r2.length; o++) {
    const e = r2[o];
    for (let l2 = 0; l2 < t.classes; l2++) n(t.step(e, l2));
    n(t.settle?.(e) ?? e);
    n(t.begin?.(e) ?? e);
  }
  const [c3, ...d2] = [...a2.keys()];
  const s3 = [c3, ...d2.sort()].map((o) => a2.get(o));
  const f = lockstep.keep([]);
  s3.forEach((o, e) => {
    f[o] = e;
  });
  const p = (o) => f[n(o)];
  const u2 = [];
  const b = [];
  const g2 = [];
  const i2 = [];
  for (const o of s3) {
    const e = r2[o];
    for (let l2 = 0; l2 < t.classes; l2++) u2.push(p(t.step(e, l2)));
    b.push(p(t.settle?.(e) ?? e));
    g2.push(p(t.begin?.(e) ?? e));
    i2.push(t.asks(e));
  }
  return { states: r2.length, classes: t.classes, next: Int32Array.from(u2), settle: Int32Array.from(b), begin: Int32Array.from(g2), asks: i2 };
}
function y(t) {lockstep.keep(t);
  const { states: a2, classes: r2 } = lockstep.keep(t);
  let n = lockstep.keep(t.asks.map(Number));
  for (let s3 = 0; ; ) {
    const f = /* @__PURE__ */ new Map();
    const p = [];
    for (let u2 = 0; u2 < a2; u2++) {
      const b = [n[u2], n[t.settle[u2]], n[t.begin[u2]]];
      for (let i2 = 0; i2 < r2; i2++) b.push(n[t.next[u2 * r2 + i2]]);
      const g2 = b.join();
      if (!f.has(g2)) f.set(g2, f.size);
      p.push(f.get(g2));
    }
    n = lockstep.keep(p);
    if (f.size === s3) break;
    s3 = f.size;
  }
  const c3 = lockstep.keep([]);
  n.forEach((s3, f) => {
    if (c3[s3] === void 0) c3[s3] = f;
  });
  const d2 = lockstep.keep((s3) => n[s3]);
  return { states: c3.length, classes: r2, next: Int32Array.from(c3.flatMap((s3) => (lockstep.keep(s3), Array.from({ length: r2 }, (f, p) => d2(t.next[s3 * r2 + p]))))), settle: Int32Array.from(c3, (s3) => d2(t.settle[s3])), begin: Int32Array.from(c3, (s3) => d2(t.begin[s3])), asks: c3.map((s3) => t.asks[s3]) };
}

// lockstep
function compileText(e, t) {
  const n = numbered(t);
  const i2 = lockstep.keep(new d(n));
  const c3 = /* @__PURE__ */ new Map();
  const a2 = /* @__PURE__ */ new Map();
  for (let s3 = 0; s3 < e.size; s3++) {
    let o = e.special(s3) ? i2.restart : i2.begin;
    for (const p of e.special(s3) ? "" : e.text(s3)) {
      let h = a2.get(p);
      if (h === void 0) {
        h = t.classify(p);
        a2.set(p, h);
      }
      o = i2.reading(o, h);
    }
    const l2 = c3.get(o);
    if (l2 === void 0) c3.set(o, [s3]);
    else l2.push(s3);
  }
  const f = lockstep.keep((s3) => s3[0]);
  const r2 = [...c3].sort(([, s3], [, o]) => o.length - s3.length || f(s3) - f(o));
  return { states: n.states, asks: n.asks.flatMap((s3, o) => s3 ? [o] : []), settle: [...n.settle], maps: r2.map(([s3]) => m(i2.targets(s3))), tokens: r2.slice(1).map(([, s3]) => k2(s3)) };
}
var d = class {
  begin;
  restart;
  #e;
  #n = /* @__PURE__ */ new Map();
  #t = [];
  #r = [];
  constructor(t) {
    this.#e = t;
    this.begin = this.#s(t.begin);
    this.restart = this.#s(new Int32Array(t.states));
  }
  targets(t) {
    return this.#t[t];
  }
  reading(t, n) {lockstep.keep(n);
    const { classes: i2, next: c3 } = lockstep.keep(this.#e);
    const a2 = t * i2 + n;
    const f = this.#r[a2];
    if (f !== void 0) return f;
    const r2 = this.#s(this.targets(t).map((s3) => c3[s3 * i2 + n]));
    this.#r[a2] = r2;
    return r2;
  }
  #s(t) {
    const n = t.join();
    const i2 = this.#n.get(n);
    if (i2 !== void 0) return i2;
    this.#n.set(n, this.#t.length);
    this.#t.push(t);
    return this.#t.length - 1;
  }
};
function m(e) {
  const t = [];
  for (const n of e) {
    if (t.at(-2) === n) t[t.length - 1] = t.at(-1) + 1;
    else t.push(n, 1);
  }
  return t;
}
function k2(e) {lockstep.keep(e);
  return e.map((t, n) => t - (e[n - 1] ?? 0));
}
function pushText(e, t, n) {
  const { classOf: i2, next: c3, states: a2, asks: f } = derived(n, x);
  const r2 = c3[(i2[t] ?? 0) * a2 + e.at];
  e.at = r2;
  return f[r2] === true;
}
function cutText(e, t) {
  e.at = t.settle[e.at];
}
function x({ states: e, maps: t, tokens: n, asks: i2 }) {
  const c3 = [];
  for (const r2 of t) {
    for (let s3 = 0; s3 < r2.length; s3 += 2) {
      for (let o = r2[s3 + 1]; o > 0; o--) c3.push(r2[s3]);
    }
  }
  const a2 = lockstep.keep([]);
  n.forEach((r2, s3) => {
    let o = 0;
    for (const l2 of r2) {
      o += l2;
      while (a2.length < o) a2.push(0);
      a2[o] = s3 + 1;
    }
  });
  const f = new Array(e).fill(false);
  for (const r2 of i2) f[r2] = true;
  return { states: e, classOf: a2, next: c3, asks: f };
}

// lockstep
var r = ["newline", "space", "letter", "digit", "stop", "bang", "ellipsis", "straight", "openQuote", "closeQuote", "apostrophe", "openBracket", "closeBracket", "dash", "mark"];
var Q = { "\n": "newline", ".": "stop", "!": "bang", "?": "bang", "。": "bang", "．": "bang", "！": "bang", "？": "bang", "؟": "bang", "।": "bang", "…": "ellipsis", '"': "straight", "“": "openQuote", "„": "openQuote", "«": "openQuote", "「": "openQuote", "『": "openQuote", "”": "closeQuote", "»": "closeQuote", "」": "closeQuote", "』": "closeQuote", "'": "apostrophe", "’": "apostrophe", "‘": "apostrophe", "(": "openBracket", "[": "openBracket", "{": "openBracket", "（": "openBracket", ")": "closeBracket", "]": "closeBracket", "}": "closeBracket", "）": "closeBracket", "-": "dash", "–": "dash", "—": "dash" };
var B = /^[\p{L}\p{M}\uFFFD]$/u;
var m2 = /^\p{Nd}$/u;
var i = { kind: "gap", newlines: 0 };
var u = { kind: "word", spelled: "" };
var k3 = { kind: "mark" };
var l = { kind: "end" };
function sentenceMachine(t) {
  const c3 = lockstep.keep(new Set(t));
  const p = lockstep.keep(new Set(t.flatMap((e) => (lockstep.keep(e), Array.from(e, (n, s3) => e.slice(0, s3 + 1))))));
  const o = lockstep.keep([...new Set(`I${t.join("")}`)].sort());
  const d2 = lockstep.keep([...r, ...o.map((e) => ({ letter: e }))]);
  const f = lockstep.keep((e) => c3.has(e) || e.length === 1 && e !== "I");
  const g2 = lockstep.keep((e, n) => {
    if (e.kind === "digit") return u;
    if (e.kind !== "word") return { kind: "word", spelled: n };
    const s3 = e.spelled + n;
    return e.spelled !== "" && p.has(s3) ? { kind: "word", spelled: s3 } : u;
  });
  const h = lockstep.keep(({ at: e, open: n }, s3) => {
    if (typeof s3 !== "string") return { open: n, at: g2(e, s3.letter) };
    switch (s3) {
      case "newline":
      case "space":
        return x2({ at: e, open: n }, s3);
      case "letter":
        return { open: n, at: g2(e, "?") };
      case "digit":
        return { open: n, at: { kind: "digit" } };
      case "stop":
        return { open: n, at: b(e) };
      case "bang":
        return { open: n, at: e.kind === "cut" && !e.spaced ? e : l };
      case "ellipsis":
        return { open: n, at: { kind: "ellipsis" } };
      case "straight":
        if (n === "quote") return { open: "none", at: a(e) };
        if (n === "none" && w(e)) return { open: "quote", at: i };
        return { open: n, at: a(e) };
      case "openQuote":
        return { open: n === "none" ? "quote" : n, at: i };
      case "closeQuote":
        return { open: n === "quote" ? "none" : n, at: a(e) };
      case "openBracket":
        if (n !== "none") return { open: n, at: i };
        return { open: O(e) ? "bracket" : "aside", at: i };
      case "closeBracket":
        if (n === "aside") return { open: "none", at: u };
        return { open: n === "bracket" ? "none" : n, at: a(e) };
      case "apostrophe":
        if (e.kind === "word") return { open: n, at: u };
        return { open: n, at: w(e) ? i : a(e) };
      case "dash":
        return { open: n, at: i };
      case "mark":
        return { open: n, at: k3 };
    }
  });
  const b = lockstep.keep((e) => {
    switch (e.kind) {
      case "word":
        return f(e.spelled) ? k3 : l;
      case "digit":
        return { kind: "point" };
      case "end":
      case "ellipsis":
        return { kind: "ellipsis" };
      case "gap":
      case "rest":
      case "blank":
      case "cut":
        return k3;
      default:
        return e.kind === "mark" ? l : k3;
    }
  });
  return { start: { open: "none", at: { kind: "cut", spaced: true } }, classes: d2.length, classify: (e) => {
    const n = Q[e];
    const s3 = o.indexOf(e);
    if (s3 !== -1) return r.length + s3;
    if (n !== void 0) return r.indexOf(n);
    if (e.trim() === "") return r.indexOf("space");
    if (B.test(e)) return r.indexOf("letter");
    return r.indexOf(m2.test(e) ? "digit" : "mark");
  }, step: (e, n) => h(e, d2[n]), asks: ({ at: e, open: n }) => e.kind === "blank" || n === "none" && (e.kind === "end" || e.kind === "rest"), settle: (e) => {
    const { at: n, open: s3 } = e;
    if (n.kind === "blank") return { open: s3, at: { kind: "cut", spaced: true } };
    if (s3 !== "none" || n.kind !== "end" && n.kind !== "rest") return e;
    return { open: s3, at: { kind: "cut", spaced: n.kind === "rest" } };
  } };
}
function x2({ at: t, open: c3 }, p) {
  if (t.kind === "cut") return { open: c3, at: { kind: "cut", spaced: true } };
  if (t.kind === "blank") return { open: c3, at: t };
  const o = p === "newline" ? 1 : 0;
  const d2 = (t.kind === "gap" || t.kind === "rest" ? t.newlines : 0) + o;
  if (d2 > 1) return { open: "none", at: { kind: "blank" } };
  const f = t.kind === "end" || t.kind === "rest" || o === 1 && (t.kind === "point" || t.kind === "ellipsis");
  return { open: c3, at: { kind: f ? "rest" : "gap", newlines: d2 } };
}
function a(t) {
  switch (t.kind) {
    case "end":
    case "rest":
    case "point":
    case "ellipsis":
      return l;
    case "cut":
      return t;
    default:
      return u;
  }
}
function O(t) {
  return t.kind === "rest" || t.kind === "blank" || t.kind === "end" || t.kind === "cut";
}
function w(t) {
  if (t.kind === "cut") return t.spaced;
  return t.kind === "gap" || t.kind === "blank" || t.kind === "rest";
}

// lockstep
var c2 = ["Mr", "Mrs", "Ms", "Messrs", "Mme", "Mlle", "Dr", "Ph", "Prof", "Rev", "Hon", "St", "Sr", "Jr", "Esq", "Gen", "Col", "Capt", "Lt", "Sgt", "Gov", "Sen", "Rep", "Pres", "vs", "viz", "etc", "cf", "al", "ca", "approx", "Fig", "fig", "Figs", "Eq", "Vol", "vol", "pp", "Inc", "Ltd", "Co", "Corp", "Jan", "Feb", "Aug", "Sept", "Oct", "Nov", "Dec"];
var sentences = definePolicy({ name: "sentences", module: "", params: { abbreviations: c2 }, check: ({ abbreviations: t }, e) => {lockstep.keep(e);
  t.forEach((o, r2) => {
    if (!/^\p{L}{1,16}$/u.test(o)) {
      e(`abbreviations[${r2}]`, "a word of 1 to 16 letters, without its full stop");
    }
  });
  if (t.length > 200) e("abbreviations", "at most 200 words");
}, prepare: (t, e) => compileText(t, sentenceMachine(e.abbreviations)), start: () => ({ at: 0 }), push: (t, e, { tables: o }) => pushText(t, e, o), cut: (t, { tables: e }) => cutText(t, e) });

// policy
lockstep.install(lockstep.revive(Object.values(any_of_exports), "anyOf", {}, [lockstep.revive(Object.values(after_exports), "after", { "tokens": 6 }, [lockstep.revive(Object.values(sentences_exports), "sentences", { "abbreviations": ["Mr", "Mrs", "Ms", "Messrs", "Mme", "Mlle", "Dr", "Ph", "Prof", "Rev", "Hon", "St", "Sr", "Jr", "Esq", "Gen", "Col", "Capt", "Lt", "Sgt", "Gov", "Sen", "Rep", "Pres", "vs", "viz", "etc", "cf", "al", "ca", "approx", "Fig", "fig", "Figs", "Eq", "Vol", "vol", "pp", "Inc", "Ltd", "Co", "Corp", "Jan", "Feb", "Aug", "Sept", "Oct", "Nov", "Dec"] }, [])]), lockstep.revive(Object.values(fixed_exports), "fixed", { "size": 20 }, [])]));
lockstep.keep([__defProp, __export, after_exports, refusal, defineCombinator, expectPolicy, withOrigin, g, s, after, any_of_exports, LockstepError, s2, c, anyOf, fixed_exports, definePolicy, fixed, sentences_exports, derived, has, numbered, k, y, compileText, d, m, k2, pushText, cutText, x, r, Q, B, m2, i, u, k3, l, sentenceMachine, x2, a, O, w, c2, sentences]);
})
