// Pages are written to files that are called so, and to no other: a mistyped name costs no source.
import path from 'node:path';
import { LockstepError } from '../../errors.ts';

/** @throws `code` for a file that --html names and that is no .html */
export function checkHtml(file: string | undefined, code: 'LS_PLAN_HTML' | 'LS_RECALL_HTML'): void {
  if (file === undefined || path.extname(file).toLowerCase() === '.html') return;
  throw new LockstepError(code, `expected --html to name an .html, got ${file}`, {
    fix: 'Name a file that ends in .html.',
    field: 'html',
  });
}
