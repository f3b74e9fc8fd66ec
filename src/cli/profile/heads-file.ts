// What `lockstep profile` writes: a JSON file that a config imports, and is checked in with it.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { replaceFile } from '../../checkpoint/write.ts';
import { LockstepError } from '../../errors.ts';
import { systemProblem } from '../../system-error.ts';
import { makeFolder } from '../shared/make-folder.ts';

export const methods = ['gates', 'recall', 'mixed', 'mass', 'first', 'even'] as const;
export type Method = (typeof methods)[number];

/** A choice of long heads and of the layers that retrieve, with what it was made from. */
export interface HeadsFile {
  readonly kind: 'lockstep heads';
  readonly method: Method;
  /** Folder name of the checkpoint, and whose weights lie in it: `trained.weights.sha256`. */
  readonly model: { readonly name: string; readonly sha256: string };
  /** For every layer its long KV heads: the config's `heads`. */
  readonly heads: { readonly long: readonly (readonly number[])[] };
  /** L_long: to be spread into the config's `retrieval`. */
  readonly retrieval: { readonly layers: readonly number[] };
  /** By layer and KV head; null for the rules, which look at nothing. */
  readonly scores: readonly (readonly number[])[] | null;
  readonly settings?: Readonly<Record<string, number>>;
  /** How the model was segmented while it was measured. */
  readonly execution?: Readonly<Record<string, unknown>>;
  readonly data?: {
    readonly files: readonly string[];
    readonly tokens: number;
    readonly sha256: string;
  };
  /** recall: needles that full attention recalled, of how many. */
  readonly recall?: { readonly recalled: number; readonly needles: number };
  /** mixed: the scores of each of its methods. */
  readonly scoresOf?: Readonly<Record<string, readonly (readonly number[])[]>>;
  /** gates: error and mean gate of every step. */
  readonly curve?: readonly (readonly number[])[];
}

const digits = 6;

/** The file's text: one layer a line, numbers of six digits. */
export function headsText(file: HeadsFile): string {
  const fields = Object.entries(file).map(([name, value]) => `  "${name}": ${text(name, value)}`);
  return `{\n${fields.join(',\n')}\n}\n`;
}

function text(name: string, value: unknown): string {
  const short = (_: string, held: unknown): unknown =>
    typeof held === 'number' ? Number(held.toPrecision(digits)) : held;
  if ((name === 'scores' || name === 'curve') && Array.isArray(value)) {
    return rows(value.map((row) => JSON.stringify(row, short)));
  }
  if (name === 'scoresOf') {
    const parts = Object.entries(value as NonNullable<HeadsFile['scoresOf']>).map(
      ([of, scores]) => `"${of}": ${rows(scores.map((row) => JSON.stringify(row, short)))}`,
    );
    return `{ ${parts.join(', ')} }`;
  }
  if (name === 'heads') {
    const { long } = value as HeadsFile['heads'];
    return `{ "long": ${rows(long.map((row) => JSON.stringify(row)))} }`;
  }
  return JSON.stringify(value);
}

function rows(lines: readonly string[]): string {
  return lines.length === 0 ? '[]' : `[\n    ${lines.join(',\n    ')}\n  ]`;
}

/**
 * Refuse to write over what is no such file.
 *
 * @throws LS_PROFILE_OUT
 */
export async function checkOut(file: string): Promise<void> {
  const there = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    return '';
  });
  if (there === null || isHeadsFile(there)) return;
  throw new LockstepError(
    'LS_PROFILE_OUT',
    `expected no file or an earlier choice of heads at ${file}, got something else`,
    { fix: 'Name another file with --out; nothing was changed.', field: 'out' },
  );
}

function isHeadsFile(held: string): boolean {
  try {
    return (JSON.parse(held) as Partial<HeadsFile> | null)?.kind === 'lockstep heads';
  } catch {
    return false;
  }
}

/** Write a file whole or not at all. */
export async function writeWhole(file: string, content: string): Promise<void> {
  try {
    await makeFolder(path.dirname(file));
    await replaceFile(file, content);
  } catch (cause) {
    throw new LockstepError(
      'LS_PROFILE_WRITE',
      `expected to write ${file}, got ${systemProblem(cause)}`,
      { fix: 'Name a file that you can write to with --out.', cause },
    );
  }
}
