// Texts to train on: which files there are, and what their rows hold, by the names of their fields.
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { createGunzip } from 'node:zlib';
import { LockstepError } from '../../errors.ts';
import { systemProblem } from '../../system-error.ts';
import type { Folder } from './folders.ts';
import { matching } from './patterns.ts';

/** What rows hold; `unknown` of files that the trainer alone can read. */
export type Format = 'text' | 'messages' | 'prompt-completion' | 'unknown';

export interface DataFiles {
  /** A file, or a pattern for all files of one kind in a folder. */
  readonly pattern: string;
  /** Absolute. */
  readonly files: readonly string[];
}

const ending = /\.(jsonl|ndjson|json|csv|tsv|parquet|arrow|txt|md)(\.gz|\.zst)?$/i;

/** Files of projects and checkpoints that end like data. */
const notData =
  /^(package(-lock)?|tsconfig.*|biome|config|lockstep|heads|.*_config|tokenizer.*|vocab|.*\.index)\.json$|^(README|LICENSE|CHANGELOG|AGENTS|requirements.*|constraints.*|merges|model_card)(\.(md|txt))?$/i;

/** Data in folders that hold no checkpoint: one entry for each folder and ending. */
export function dataIn(folders: readonly Folder[], skipped: readonly string[]): DataFiles[] {
  // A checkpoint with what a training keeps below it, and the cache of tokenized texts.
  const made = folders.flatMap(({ path: one, files }) =>
    files.includes('lockstep.json') || one.endsWith(path.join('.lockstep', 'cache')) ? [one] : [],
  );
  return folders.flatMap((folder) => {
    const inside = [...skipped, ...made].some(
      (one) => folder.path === one || folder.path.startsWith(one + path.sep),
    );
    if (inside) return [];
    const byEnding = new Map<string, string[]>();
    for (const name of folder.files) {
      const match = notData.test(name) ? null : ending.exec(name);
      if (match === null) continue;
      byEnding.set(match[0], [...(byEnding.get(match[0]) ?? []), path.join(folder.path, name)]);
    }
    return [...byEnding].map(([end, files]) => ({
      pattern: files.length === 1 ? (files[0] as string) : path.join(folder.path, `*${end}`),
      files,
    }));
  });
}

/**
 * The files that `--data` names, as the trainer finds them.
 *
 * @param names files and patterns; `!pattern` takes some out
 * @param found what was found without being named
 * @throws LS_INIT_DATA for a name without files
 */
export async function filesOf(
  names: readonly string[],
  found: readonly DataFiles[],
): Promise<string[]> {
  const files = new Set<string>();
  for (const name of names.filter((one) => !one.startsWith('!'))) {
    const pattern = path.resolve(name);
    const known = found.find((one) => one.pattern === pattern)?.files;
    const own = known ?? (await matching(pattern));
    let any = false;
    for (const file of own) {
      if (known === undefined && !(await isData(file))) continue;
      any = true;
      files.add(file);
    }
    if (any) continue;
    throw noData(own.length > 0 ? `a plain folder: ${name}` : `none that ${name} names`);
  }
  for (const name of names.filter((one) => one.startsWith('!'))) {
    for (const file of await matching(path.resolve(name.slice(1)))) files.delete(file);
  }
  if (files.size === 0) throw noData(`none after ${names.join(' ')}`);
  return [...files];
}

/** A file, or a folder that `datasets` saved; other folders hold whatever they hold. */
async function isData(file: string): Promise<boolean> {
  if (!(await stat(file)).isDirectory()) return true;
  return (await stat(path.join(file, 'state.json')).catch(() => null)) !== null;
}

export function noData(got: string): LockstepError {
  return new LockstepError('LS_INIT_DATA', `expected files to train on, got ${got}`, {
    fix: "Name files with text in them with --data; for all texts of a folder: --data 'FOLDER/**/*.txt'.",
    field: 'data',
  });
}

export interface Sample {
  readonly format: Format;
  /** Fields of the first row; none of a plain text. */
  readonly fields: readonly string[];
  /** Documents in the part that was read. */
  readonly documents: number;
}

/** Bytes of a file that are read. */
const enough = 1 << 22;

/**
 * Look at a file's first rows.
 *
 * @throws LS_INIT_DATA for a file that cannot be read, LS_INIT_FORMAT for rows of which nothing can be learned
 */
export async function sampleOf(file: string): Promise<Sample> {
  const name = path.basename(file).toLowerCase();
  const kind = /\.([a-z]+)(\.gz)?$/.exec(name)?.[1];
  const saved = (await stat(file).catch(() => null))?.isDirectory() === true;
  if (saved || name.endsWith('.zst') || kind === 'parquet' || kind === 'arrow') {
    return { format: 'unknown', fields: [], documents: 0 };
  }
  const text = (await beginning(file)).replace(/^\uFEFF/, '');
  if (kind === 'csv' || kind === 'tsv') {
    const [head = '', ...rows] = text.split(/\r?\n/);
    const fields = head
      .split(kind === 'csv' ? ',' : '\t')
      .map((field) => field.replace(/^"|"$/g, ''));
    return { format: formatOf(fields, file), fields, documents: rows.filter(Boolean).length };
  }
  if (kind !== 'jsonl' && kind !== 'ndjson' && kind !== 'json') {
    return { format: 'text', fields: [], documents: text.trim() === '' ? 0 : 1 };
  }
  const { row, documents } = firstRow(text, file);
  const fields = Object.keys(row);
  return { format: formatOf(fields, file), fields, documents };
}

function firstRow(text: string, file: string): { row: object; documents: number } {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  for (const candidate of [lines[0] ?? '', text]) {
    try {
      const value: unknown = JSON.parse(candidate);
      const rows = Array.isArray(value) ? value : [value];
      if (typeof rows[0] === 'object' && rows[0] !== null) {
        const whole = candidate === text && candidate !== lines[0];
        return {
          row: rows[0],
          documents: whole || Array.isArray(value) ? rows.length : lines.length,
        };
      }
    } catch {
      // The other reading, or told below.
    }
  }
  throw new LockstepError(
    'LS_INIT_FORMAT',
    `expected rows that are JSON objects, got others in ${file}`,
    {
      fix: 'Name the files with --data; docs/data.md says what they may hold.',
      field: 'data',
    },
  );
}

function formatOf(fields: readonly string[], file: string): Format {
  if (fields.includes('messages')) return 'messages';
  if (fields.includes('prompt') && fields.includes('completion')) return 'prompt-completion';
  if (fields.includes('text')) return 'text';
  throw new LockstepError(
    'LS_INIT_FORMAT',
    `expected rows with messages, prompt and completion, or text, got ${fields.slice(0, 8).join(', ') || 'none'} in ${file}`,
    {
      fix: 'Rename the fields, or write the config by hand with data.field and data.format (docs/data.md).',
      field: 'data',
    },
  );
}

async function beginning(file: string): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  const raw = createReadStream(file);
  const stream = file.endsWith('.gz') ? raw.pipe(createGunzip()) : raw;
  try {
    const failed = new Promise<never>((_, reject) => raw.once('error', reject));
    failed.catch(() => {});
    const read = (async () => {
      for await (const chunk of stream) {
        chunks.push(chunk as Buffer);
        bytes += (chunk as Buffer).length;
        if (bytes >= enough) break;
      }
    })();
    await Promise.race([read, failed]);
  } catch (cause) {
    throw new LockstepError(
      'LS_INIT_DATA',
      `expected a readable file, got ${systemProblem(cause)}: ${file}`,
      {
        fix: 'Name files that exist with --data.',
        field: 'data',
        cause,
      },
    );
  } finally {
    raw.destroy();
  }
  const text = decoded(Buffer.concat(chunks), bytes >= enough, file);
  // The last line may be cut.
  const end = text.lastIndexOf('\n');
  return bytes >= enough && end > 0 ? text.slice(0, end) : text;
}

/** @param cut whether the last character may be cut */
function decoded(bytes: Buffer, cut: boolean, file: string): string {
  let text: string | null;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes, { stream: cut });
  } catch {
    text = null;
  }
  // No text has it, and every program does.
  if (text?.includes('\0') === false) return text;
  throw new LockstepError('LS_INIT_DATA', `expected text in UTF-8, got other bytes in ${file}`, {
    fix: 'Name texts or tables with --data (docs/data.md lists what they may be), or convert the file first.',
    field: 'data',
  });
}
