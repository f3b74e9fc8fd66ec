// The documentation: the page of errors is that of the code.
// LOCKSTEP_UPDATE_DOCS=1 writes docs/errors.md; without it a stale page fails.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { findPython, type Python } from '../src/bridge/index.ts';
import { packageRoot } from '../src/paths.ts';
import type { ErrorText } from './docs/error-texts.ts';
import {
  allErrors,
  errorsPage,
  sources,
  storedErrorsPage,
  storeErrorsPage,
  withoutFix,
} from './docs/errors-page.ts';

let python: Python;

beforeAll(async () => {
  python = await findPython({ modules: [] });
});

describe('docs/errors.md', () => {
  let errors: ErrorText[];
  beforeAll(() => {
    errors = allErrors(python);
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
