// The table of edits in docs/contract.md, between two markers.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { packageRoot } from '../../src/paths.ts';
import type { Edit } from './edit.ts';
import type { Outcome } from './judges.ts';

export interface Row extends Pick<Edit, 'file' | 'name'> {
  node: Outcome;
  python: Outcome;
  serve: string;
}

const docs = path.join(packageRoot, 'docs', 'contract.md');
const [begin, end] = ['<!-- edits: written by test/edits.test.ts -->', '<!-- edits: end -->'];

/** Markdown of the rows. */
export function tableOf(rows: readonly Row[]): string {
  const lines = rows.map(
    ({ file, name, node, python, serve }) =>
      `| \`${file}\` | ${name.replaceAll('|', '\\|')} | ${shown(node)} | ${shown(python)} | ${serve === 'serves' ? serve : `\`${serve}\``} |`,
  );
  return [
    '| file | edit | Node | Python | `lockstep serve` |',
    '| --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n');
}

/** The table as it stands in the docs. */
export function storedTable(): string {
  const [, table] = parts();
  return table;
}

export function storeTable(table: string): void {
  const [before, , after] = parts();
  writeFileSync(docs, `${before}${begin}\n${table}\n${end}${after}`);
}

function parts(): [before: string, table: string, after: string] {
  const text = readFileSync(docs, 'utf8');
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`expected ${begin} and ${end} in ${docs}`);
  const table = text.slice(from + begin.length, to).trim();
  return [text.slice(0, from), table, text.slice(to + end.length)];
}

function shown([code, field]: Outcome): string {
  if (code === 'accepted') return code;
  return field === null || field === '' ? `\`${code}\`` : `\`${code}\` ${field}`;
}
