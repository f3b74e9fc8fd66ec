import { parse } from 'acorn';
import { describe, expect, it } from 'vitest';
import { nondeterminism } from './determinism.ts';

const findings = (source: string) =>
  nondeterminism(parse(source, { ecmaVersion: 2022, locations: true }));

const found = (source: string): string[] => findings(source).map(({ what }) => what);

describe('refuses', () => {
  it.each([
    ['Date.now()', 'uses Date'],
    ['new Date()', 'uses Date'],
    ['Math.random()', 'uses Math.random'],
    ['Math["exp"](1)', 'uses Math.exp'],
    ['Math.log(2)', 'uses Math.log'],
    ['Math.hypot(1, 2)', 'uses Math.hypot'],
    ['Math[name]', 'uses Math[...]'],
    ['const { floor, tanh } = Math', 'uses Math.tanh'],
    ['const M = Math', 'uses Math as a value'],
    ['2 ** x', 'uses **'],
    ['let a = 1; a **= 2', 'uses **='],
    ['new Intl.Segmenter()', 'uses Intl'],
    ['a.localeCompare(b)', 'uses localeCompare'],
    ['n.toLocaleString()', 'uses toLocaleString'],
    ['process.env.HOME', 'uses process'],
    ['globalThis.x', 'uses globalThis'],
    ['window.x = 1', 'uses window'],
    ['fetch("http://a")', 'uses fetch'],
    ['require("fs")', 'uses require'],
    ['setTimeout(f, 1)', 'uses setTimeout'],
    ['(async () => 1)()', 'uses an async function'],
    ['import("./a")', 'uses import()'],
    ['Promise.resolve()', 'uses Promise'],
    ['eval("1")', 'uses eval'],
    ['new Function("1")', 'uses Function'],
    ['new WeakRef({})', 'uses WeakRef'],
    ['new FinalizationRegistry(f)', 'uses FinalizationRegistry'],
    ['performance.now()', 'uses performance'],
    ['console.log(1)', 'uses console'],
    ['({ push: () => /a/.test(b) })', 'uses a regular expression outside prepare'],
    ['({ push() { return new RegExp(b) } })', 'uses a regular expression outside prepare'],
    ['({ cut: (s) => s.x.toLowerCase() })', 'uses toLowerCase outside prepare'],
    [
      'const h = () => /a/.test(b); ({ push: () => h() })',
      'uses a regular expression outside prepare',
    ],
    ['({ push() { try { f() } catch { return true } } })', 'catches errors outside prepare'],
    [
      'const h = () => { try { f() } finally { x = 1 } }; ({ push: () => h() })',
      'catches errors outside prepare',
    ],
    [
      'class C { #p = 1; g() { return this.#p } }; ({ push: () => new C().g() })',
      'uses a private field (#p)',
    ],
    ['x.sort((a, b) => a > b)', 'sorts with a comparator that returns a boolean'],
    [
      'x.toSorted(function (a, b) { return a < b || b })',
      'sorts with a comparator that returns a boolean',
    ],
    ['1n + 2n', 'uses a BigInt'],
    ['new Proxy({}, {})', 'uses Proxy'],
  ])('%s', (source, what) => {
    // Names that the snippets need but do not test.
    const declared = 'var f, a, b, n, x, name;\n';
    expect(found(source.startsWith('let') ? source : declared + source)).toContain(what);
  });
});

describe('allows', () => {
  it.each([
    'Math.floor(Math.sqrt(2)) + Math.imul(3, 4) + Math.fround(0.1)',
    'const { floor, abs } = Math',
    'function f(Date) { return Date.now }',
    '{ const fetch = 1; fetch + 1 }',
    'try {} catch (performance) { performance.x }',
    'for (const process of []) process.env',
    'class Intl {} new Intl()',
    'function g() { return Date; var Date }',
    'const { window: inner } = {}; inner',
    'const { a: [self = 1] } = {}; self',
    '({ Date: 1, process() {} }).Date',
    'x: for (;;) break x',
    'typeof process === "undefined"',
    '({ prepare: (v) => v.select((t) => /a/.test(t.toLowerCase())) })',
    'new Map([[1, new Float64Array(2)]])',
    'const x = []; x.sort((a, b) => a - b)',
    'const h = () => { try { return /a/ } catch {} }; ({ prepare: () => h() })',
    'function h() { return arguments.length }',
    'const k = function own() { return own }',
  ])('%s', (source) => {
    expect(found(source)).toEqual([]);
  });

  it('but not a global behind a declaration of another scope', () => {
    expect(found('{ const Date = 1 }\nDate.now()')).toEqual(['uses Date']);
    expect(found('function f(process) {}\nprocess.exit()')).toEqual(['uses process']);
  });
});

it('gives the place', () => {
  expect(findings('"use strict";\n  Date.now();')).toMatchObject([{ line: 2, column: 2 }]);
});
