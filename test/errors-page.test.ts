// docs/errors.md explains each code: its area, its cause and how to fix it.
import { describe, expect, test } from 'vitest';
import {
  errorsPage,
  incomplete,
  needlessCauses,
  storedErrorsPage,
  withoutArea,
} from './docs/errors-page.ts';

describe('docs/errors.md', () => {
  const page = storedErrorsPage();

  test('says cause and fix of every code', () => {
    expect(page.match(/^### LS_/gm)?.length).toBeGreaterThan(250);
    expect(incomplete(page)).toEqual([]);
  });

  test('has every code in an area', () => {
    expect(withoutArea(page)).toEqual([]);
  });

  test('needs every cause that is written by hand', () => {
    expect(needlessCauses(page)).toEqual([]);
  });

  test('a code without cause, fix or area is found', () => {
    const path = 'src/x.ts';
    const made = errorsPage([
      { code: 'LS_USAGE', message: 'expected a, got b', path, warns: false },
      { code: 'LS_USELESS_A', message: '…: …', fix: 'Do this.', path, warns: false },
      { code: 'LS_USELESS_B', message: 'expected a, got b', fix: '…', path, warns: false },
      { code: 'LS_CANCELLED', message: 'expected a, got b', path, warns: true },
      { code: 'LS_CONFIG_X', message: 'expected a, got b', fix: 'Do this.', path, warns: false },
    ]);
    expect(incomplete(made)).toEqual(['LS_USAGE', 'LS_USELESS_A', 'LS_USELESS_B']);
    expect(withoutArea(made)).toEqual(['LS_USELESS_A', 'LS_USELESS_B']);
  });
});
