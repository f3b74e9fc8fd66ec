// Which files are a checkpoint's weights: one model.safetensors, or an index and its shards; never both.
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { LockstepError } from '../errors.ts';
import { object } from './header.ts';

export const single = 'model.safetensors';
const indexFile = 'model.safetensors.index.json';
/** What is read of an index at most, in bytes: a model of 100,000 tensors has 10 MB. */
const indexLimit = 100_000_000;

export interface FileSet {
  /** Names in the folder, sorted. */
  readonly files: readonly string[];
  /** The file of every tensor, as the index says; null without one. */
  readonly map: ReadonlyMap<string, string> | null;
}

/** True where nothing in the folder is meant as weights: it may hold an exported graph alone. */
export async function holdsNoWeights(dir: string): Promise<boolean> {
  const names = await readdir(dir).catch((): string[] => []);
  return !names.some((name) => isWeights(name) || isIndex(name) || adapter.test(name));
}

/**
 * Decide which files are the weights, and refuse what one reader would read and another would not
 * (counterpart of `file_set` in python/lockstep/weights/files.py).
 *
 * @throws LS_MODEL_WEIGHTS when there are none, or only pickled ones; LS_MODEL_WEIGHTS_FILES for files
 *   that contradict each other; LS_MODEL_WEIGHTS_INDEX
 */
export async function fileSet(dir: string): Promise<FileSet> {
  const names = (await readdir(dir).catch((): string[] => [])).sort();
  const adapters = names.find((name) => adapter.test(name));
  if (adapters !== undefined) {
    throw files(
      `expected the weights of one whole model in ${dir}, got ${adapters} next to them`,
      'Merge the adapter (merge_and_unload of peft, then save_pretrained), or move its files elsewhere.',
    );
  }
  const there = names.filter(isWeights);
  const map = names.includes(indexFile) ? await readIndex(dir) : null;
  const set = map === null ? [single] : [...new Set(map.values())].sort();
  if (map === null && !there.includes(single)) throw none(dir, names, there);
  if (map !== null && there.includes(single) && !set.includes(single)) {
    throw files(
      `expected one set of weights in ${dir}, got ${single} and ${indexFile} with ${set.join(', ')}`,
      'Remove the set that is not the model’s: readers would differ in which one they take.',
    );
  }
  const absent = set.find((name) => !names.includes(name));
  if (absent !== undefined) {
    throw index(`expected the files that ${indexFile} names in ${dir}, got no ${absent}`);
  }
  const stray =
    there.find((name) => !set.includes(name)) ??
    names.find((name) => isIndex(name) && name !== indexFile);
  if (stray !== undefined) {
    throw files(
      `expected no weights but ${set.join(', ')} in ${dir}, got ${stray} too`,
      'Move the file elsewhere: some readers would read it, and others would not.',
    );
  }
  return { files: set, map };
}

const adapter = /^adapter_(config\.json|model\.(safetensors|bin))$/;

function isWeights(name: string): boolean {
  return name.endsWith('.safetensors') && !name.startsWith('.');
}

function isIndex(name: string): boolean {
  return name.endsWith('.safetensors.index.json') && !name.startsWith('.');
}

async function readIndex(dir: string): Promise<Map<string, string>> {
  const file = path.join(dir, indexFile);
  const size = (await stat(file).catch(() => null))?.size ?? 0;
  if (size > indexLimit) {
    throw index(`expected ${indexFile} of at most ${indexLimit} bytes in ${dir}, got ${size}`);
  }
  let held: unknown = null;
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    held = JSON.parse(text.decode(await readFile(file)));
  } catch {
    // Told below, with everything else that is no index.
  }
  const map = object(object(held)?.['weight_map']);
  const entries = Object.entries(map ?? {});
  if (entries.length === 0 || entries.some(([, name]) => typeof name !== 'string')) {
    throw index(
      `expected weight_map with a file for each tensor in ${indexFile} of ${dir}, got none`,
    );
  }
  for (const [, name] of entries as [string, string][]) {
    if (/^[^./\\\0][^/\\\0]*\.safetensors$/.test(name) && !name.includes('..')) continue;
    throw index(
      `expected names of .safetensors files in its own folder in ${indexFile} of ${dir}, got ${JSON.stringify(name)}`,
    );
  }
  return new Map(entries as [string, string][]);
}

function none(dir: string, names: readonly string[], there: readonly string[]): LockstepError {
  const pickled = names.find((name) => /\.(bin|pt|pth|ckpt)$/.test(name));
  const got = there.length > 0 ? there.join(', ') : (pickled ?? 'no weights');
  return new LockstepError(
    'LS_MODEL_WEIGHTS',
    `expected ${single} or ${indexFile} in ${dir}, got ${got}`,
    {
      fix:
        pickled === undefined || there.length > 0
          ? 'Finish the download of the checkpoint.'
          : 'Pickled weights can run code; save the model again with save_pretrained, which writes safetensors.',
    },
  );
}

function files(message: string, fix: string): LockstepError {
  return new LockstepError('LS_MODEL_WEIGHTS_FILES', message, { fix });
}

function index(message: string): LockstepError {
  return new LockstepError('LS_MODEL_WEIGHTS_INDEX', message, {
    fix: 'Copy the index and its files again from the original checkpoint.',
    field: indexFile,
  });
}
