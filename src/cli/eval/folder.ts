// The folder of an evaluation's results: one from which a later call resumes, or a temporary one.
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { replaceFile } from '../../checkpoint/write.ts';
import { LockstepError } from '../../errors.ts';
import { readIfThere } from '../../read-if-there.ts';
import { fileSet } from '../../weights/files.ts';
import { makeFolder } from '../shared/make-folder.ts';
import type { EvaluatedCheckpoints } from './subjects.ts';

const identityFile = 'eval.json';

export interface EvalFolder {
  dir: string;
  close(): Promise<void>;
}

/**
 * @param asked `--out`; undefined: a temporary folder
 * @param identity everything that changes a figure
 * @throws LS_EVAL_RESUME when the folder holds another evaluation, LS_EVAL_OUT when other files
 */
export async function openFolder(
  asked: string | undefined,
  identity: Readonly<Record<string, unknown>>,
): Promise<EvalFolder> {
  if (asked === undefined) {
    const dir = await mkdtemp(path.join(tmpdir(), 'lockstep-eval-'));
    return { dir, close: () => rm(dir, { recursive: true, force: true }) };
  }
  const dir = path.resolve(asked);
  const file = path.join(dir, identityFile);
  const text = `${JSON.stringify(identity, null, 2)}\n`;
  const there = await readIfThere(file).catch((cause: unknown) => {
    throw unusable(dir, cause);
  });
  if (there === null) await begin(dir, file, text);
  else if (there !== text) throw resumeError(dir, differing(there, identity));
  return { dir, close: async () => {} };
}

async function begin(dir: string, file: string, text: string): Promise<void> {
  let others: string[];
  try {
    await makeFolder(dir);
    others = await readdir(dir);
    if (others.length === 0) await replaceFile(file, text);
  } catch (cause) {
    throw unusable(dir, cause);
  }
  if (others.length > 0) throw outError(dir, `other files: ${others.slice(0, 3).join(', ')}`);
}

function unusable(dir: string, cause: unknown): LockstepError {
  return outError(dir, `${(cause as NodeJS.ErrnoException).code ?? cause}`, cause);
}

function outError(dir: string, got: string, cause?: unknown): LockstepError {
  const message = `expected --out to name an empty folder or an earlier evaluation’s, got ${got} at ${dir}`;
  const fix = 'Name another folder, which is made, with --out; nothing was changed.';
  return new LockstepError('LS_EVAL_OUT', message, { fix, field: 'out', cause });
}

/** Weight files by size and time of change: enough to notice another training at the same place. */
export async function weightsOf({ all }: EvaluatedCheckpoints): Promise<Record<string, string[]>> {
  const subjects = all.map(async ({ weights, dir }) => {
    const { files: names } = await fileSet(dir);
    const entries = names.map(async (name) => {
      const { size, mtimeMs } = await stat(path.join(dir, name));
      return `${name} ${size} ${Math.trunc(mtimeMs)}`;
    });
    return [weights, await Promise.all(entries)] as const;
  });
  return Object.fromEntries(await Promise.all(subjects));
}

function differing(text: string, identity: Readonly<Record<string, unknown>>): string[] {
  let old: Record<string, unknown> = {};
  try {
    old = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return [identityFile];
  }
  return fieldsThatDiffer(old, identity);
}

/** What was asked is named option by option. */
function fieldsThatDiffer(old: Readonly<Record<string, unknown>>, now: typeof old): string[] {
  const names = [...new Set([...Object.keys(old), ...Object.keys(now)])];
  return names.flatMap((name) => {
    const [a, b] = [old[name], now[name]];
    if (JSON.stringify(a) === JSON.stringify(b)) return [];
    if (name !== 'asked' || typeof a !== 'object' || typeof b !== 'object') return [name];
    return fieldsThatDiffer(a as typeof old, b as typeof old);
  });
}

function resumeError(dir: string, fields: string[]): LockstepError {
  return new LockstepError(
    'LS_EVAL_RESUME',
    `expected the same evaluation in ${dir}, got another in ${fields.join(', ')}`,
    { fix: 'Name another folder with --out, or remove this one.', field: 'out' },
  );
}
