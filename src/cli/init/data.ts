// Texts to train on: which files there are, and what their rows hold, by the names of their fields.
import { createReadStream } from 'node:fs';
import path from 'node:path';
import { createGunzip } from 'node:zlib';
import { LockstepError } from '../../errors.ts';
import { systemProblem } from '../../system-error.ts';
import type { Folder } from './folders.ts';

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
  if (name.endsWith('.zst') || kind === 'parquet' || kind === 'arrow') {
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
    return { format: 'text', fields: [], documents: 1 };
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
  const text = Buffer.concat(chunks).toString('utf8');
  // The last line may be cut.
  const end = text.lastIndexOf('\n');
  return bytes >= enough && end > 0 ? text.slice(0, end) : text;
}
