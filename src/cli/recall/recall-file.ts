// The grid stored in the checkpoint: recall.json, which reports read, and a table in its model card.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { replaceFile } from '../../checkpoint/write.ts';
import { LockstepError } from '../../errors.ts';
import { readIfThere } from '../../read-if-there.ts';
import { systemProblem } from '../../system-error.ts';
import { documentsText, labelOf, shownRows } from './grid.ts';
import type { RecallResult } from './run.ts';

export const recallFile = 'recall.json';
const [begin, end] = ['<!-- lockstep recall -->', '<!-- lockstep recall ends -->'];

/** What is stored: the measurement, and the contract that it is of. */
export type StoredRecall = RecallResult & { digest: string };

/** Write both into the checkpoint's folder; an earlier measurement's give way. */
export async function storeRecall(dir: string, result: StoredRecall): Promise<void> {
  const card = path.join(dir, 'README.md');
  try {
    const text = (await readIfThere(card)) ?? '';
    await replaceFile(path.join(dir, recallFile), `${JSON.stringify(result)}\n`);
    await replaceFile(card, withTable(text, recallMarkdown(result)));
  } catch (cause) {
    throw notWritten(dir, cause, 'Leave --card out, or give write permission to the folder.');
  }
}

export function notWritten(file: string, cause: unknown, fix: string): LockstepError {
  return new LockstepError(
    'LS_RECALL_WRITE',
    `expected to write ${file}, got ${systemProblem(cause)}`,
    {
      fix,
      cause,
    },
  );
}

/**
 * What was stored; null where nothing was.
 *
 * @param file another place than the folder's own
 * @throws LS_RECALL_FILE for a file that cannot be read or is of another contract
 */
export async function readRecall(
  dir: string,
  digest: string,
  file?: string,
): Promise<StoredRecall | null> {
  const from = file ?? path.join(dir, recallFile);
  let text: string;
  try {
    text = await readFile(from, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' && file === undefined) return null;
    throw problem(from, systemProblem(cause));
  }
  let stored: StoredRecall;
  try {
    stored = JSON.parse(text.trim().split('\n').at(-1) ?? '') as StoredRecall;
    labelsOf(stored);
  } catch {
    throw problem(from, 'something else');
  }
  if (stored.digest !== digest) throw problem(from, 'that of another contract');
  return stored;
}

function labelsOf({ rows, asked, text }: StoredRecall): string[] {
  if (!Array.isArray(asked.lengths) || !Number.isInteger(text.tokens)) throw new TypeError();
  return rows.map((row) => `${labelOf(row)} ${row.lengths.length} ${row.cells.length}`);
}

function problem(file: string, got: string): LockstepError {
  return new LockstepError(
    'LS_RECALL_FILE',
    `expected what lockstep recall printed for this checkpoint in ${file}, got ${got}`,
    {
      fix: 'Measure again with lockstep recall DIR --card, or remove the file.',
      field: 'recall',
    },
  );
}

/** The table takes the place of an earlier one, or stands at the card's end. */
export function withTable(card: string, table: string): string {
  const [from, to] = [card.indexOf(begin), card.indexOf(end)];
  const section = `${begin}\n${table}\n${end}`;
  if (from !== -1 && to > from) {
    return `${card.slice(0, from)}${section}${card.slice(to + end.length)}`;
  }
  return `${card.trimEnd()}${card.trim() === '' ? '' : '\n\n'}${section}\n`;
}

function recallMarkdown(result: RecallResult): string {
  const { lengths, samples, depths } = result.asked;
  const rows = shownRows(result).map((row) => {
    const shares = lengths.map((length) => {
      const found = row.lengths.find((one) => one.length === length);
      return found === undefined ? '' : `${Math.round(100 * found.recalled)}%`;
    });
    return `| ${labelOf(row)} | ${shares.join(' | ')} |`;
  });
  return `## Recall

Share of needles recalled that were hidden in a text of so many tokens (\`lockstep recall\`; ${documentsText(samples)} per length, ${depths.length} needles in each).

| | ${lengths.join(' | ')} |
| --- |${lengths.map(() => ' ---: |').join('')}
${rows.join('\n')}`;
}
