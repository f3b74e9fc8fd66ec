// The documentation: links lead somewhere, commands exist, the page of errors is that of the code. Its code blocks:
// docs-blocks.test.ts.
// LOCKSTEP_UPDATE_DOCS=1 writes docs/errors.md; without it a stale page fails.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { findPython, type Python } from '../src/bridge/index.ts';
import { packageRoot } from '../src/paths.ts';
import { lockstepCommands, shellProblems } from './docs/commands.ts';
import type { ErrorText } from './docs/error-texts.ts';
import {
  allErrors,
  errorsPage,
  sources,
  storedErrorsPage,
  storeErrorsPage,
  withoutFix,
} from './docs/errors-page.ts';
import { documentation, readPage, results } from './docs/markdown.ts';

let python: Python;

beforeAll(async () => {
  python = await findPython({ modules: [] });
});

describe('docs/errors.md', () => {
  let errors: ErrorText[];
  beforeAll(async () => {
    errors = await allErrors(python);
  });

  test('has every code that the code names', () => {
    const found = new Set(errors.map(({ code }) => code));
    const files = sources(['src', 'scripts', 'python/lockstep'], /\.(ts|js|mjs|py)$/);
    const literal = files.flatMap((file) =>
      [
        ...readFileSync(path.join(packageRoot, file), 'utf8').matchAll(
          /['"](LS_[A-Z0-9_]*[A-Z0-9])['"]/g,
        ),
      ].map(([, code]) => code as string),
    );
    expect(literal.length).toBeGreaterThan(300);
    expect([...new Set(literal)].filter((code) => !found.has(code))).toEqual([]);
  });

  test('has a fix for every error', () => {
    expect(withoutFix(errors)).toEqual([]);
  });

  test('is what the code says', () => {
    const page = errorsPage(errors);
    if (process.env['LOCKSTEP_UPDATE_DOCS'] === '1') storeErrorsPage(page);
    expect(storedErrorsPage()).toBe(page);
  });
});

describe('pages', () => {
  const pages = documentation();
  const linked = [...pages, ...results()];
  const links = linked.flatMap(({ file, links }) => links.map((link) => ({ ...link, file })));

  test('every relative link leads to a file and a heading', () => {
    const relative = links.filter(({ target }) => !/^[a-z]+:/.test(target));
    expect(relative.length).toBeGreaterThan(100);
    expect(relative.some(({ file }) => file === 'bench/serving/RESULTS.md')).toBe(true);
    expect(relative.flatMap(({ target, file, at }) => linkProblem(target, file, at))).toEqual([]);
  });

  test('bench/RESULTS.md has the newest section first', () => {
    const text = readFileSync(path.join(packageRoot, 'bench/RESULTS.md'), 'utf8');
    const dates = text
      .split(/^## /m)
      .slice(1)
      .map((section) => (section.match(/\b20\d\d-\d\d-\d\d\b/g) ?? ['']).sort().at(-1));
    expect(dates.length).toBeGreaterThan(10);
    expect(dates).toEqual([...dates].sort().reverse());
  });

  test('a link without its file or heading is found', () => {
    expect(linkProblem('none.md', 'docs/eval.md', 'x')).toEqual(['x: there is no docs/none.md']);
    expect(linkProblem('errors.md#none', 'docs/eval.md', 'x')).toHaveLength(1);
    expect(linkProblem('verify.md#the-probe', 'docs/eval.md', 'x')).toEqual([]);
  });

  test('docs/README.md links every page of the documentation', () => {
    const index = pages.find(({ file }) => file === 'docs/README.md');
    const named = new Set(index?.links.map(({ target }) => `docs/${target.split('#')[0]}`));
    const own = pages.map(({ file }) => file).filter((file) => /^docs\/(?!README)/.test(file));
    expect(own.filter((file) => !named.has(file))).toEqual([]);
  });
});

describe('commands', () => {
  test('have the subcommands, arguments and options that they name', { timeout: 180_000 }, () => {
    const commands = lockstepCommands();
    expect(commands.get('verify')?.flags.has('--against')).toBe(true);
    const wrong = [
      'lockstep none',
      'lockstep keys none',
      'lockstep keys add x --none',
      'lockstep plan x y',
      'lockstep verify --tokens 1 x y',
      'A=1 lockstep plan x --none',
      'npm run plan -- x --none',
    ];
    for (const text of wrong) expect(shellProblems(text, commands, () => {})).toHaveLength(1);
    let checked = 0;
    const check = ({ text, at }: { text: string; at: string }) =>
      shellProblems(text, commands, () => checked++).map((problem) => `${at}: ${problem}`);
    const blocks = documentation().flatMap((page) => page.blocks);
    const inBlocks = blocks.filter(({ language }) => language === 'sh').flatMap(check);
    const spans = documentation().flatMap((page) => page.spans);
    const inLines = spans.filter(({ text }) => !text.includes('…')).flatMap(check);
    expect([...inBlocks, ...inLines]).toEqual([]);
    expect(checked).toBeGreaterThan(150);
  });
});

/** What is wrong with the link `target` of `file`. */
function linkProblem(target: string, file: string, at: string): string[] {
  const [name, anchor] = target.split('#') as [string, string | undefined];
  const to = name === '' ? file : path.posix.join(path.posix.dirname(file), name);
  if (!existsSync(path.join(packageRoot, to))) return [`${at}: there is no ${to}`];
  if (anchor === undefined || readPage(to).anchors.has(anchor)) return [];
  return [`${at}: there is no heading #${anchor} in ${to}`];
}
