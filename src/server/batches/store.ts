// The folder of `--batches`: files and batches of all keys, held by one server at a time.
import { chmod, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { LockstepError } from '../../errors.ts';
import { systemProblem } from '../../system-error.ts';
import { FileStore, readRecord } from './files.ts';
import { isBatchId } from './ids.ts';
import { isLock, lockFolder } from './lock.ts';
import { type BatchRecord, batchRecord } from './record.ts';

/** Default: most bytes of files. */
export const BATCH_BYTES = 10 * 1024 ** 3;

export class BatchStore {
  readonly files: FileStore;
  /** Where batches are, a folder each. */
  readonly batches: string;
  /** Those that the folder had when it was opened, the oldest first. */
  readonly found: readonly BatchRecord[];
  readonly #unlock: () => Promise<void>;

  private constructor(
    files: FileStore,
    batches: string,
    found: readonly BatchRecord[],
    unlock: () => Promise<void>,
  ) {
    this.files = files;
    this.batches = batches;
    this.found = found;
    this.#unlock = unlock;
  }

  /**
   * Open a folder, which is made where it is not there.
   *
   * @param limit most bytes of files
   * @throws LS_BATCH_FOLDER, LS_BATCH_LOCK
   */
  static async open(folder: string, limit: number = BATCH_BYTES): Promise<BatchStore> {
    let unlock: (() => Promise<void>) | null = null;
    try {
      await refuseForeign(folder);
      await mkdir(folder, { recursive: true, mode: 0o700 });
      // Texts of all keys lie here.
      await chmod(folder, 0o700);
      unlock = await lockFolder(folder);
      const files = await FileStore.open(path.join(folder, 'files'), limit);
      const batches = path.join(folder, 'batches');
      await mkdir(batches, { recursive: true, mode: 0o700 });
      return new BatchStore(files, batches, await recordsIn(batches), unlock);
    } catch (error) {
      await unlock?.();
      if (error instanceof LockstepError) throw error;
      throw new LockstepError(
        'LS_BATCH_FOLDER',
        `expected a folder for batches that can be written at ${folder}, got ${systemProblem(error)}`,
        {
          fix: 'Give --batches a folder that belongs to this user.',
          field: 'batches',
          cause: error,
        },
      );
    }
  }

  /** The folder of a batch. */
  folderOf(id: string): string {
    return path.join(this.batches, id);
  }

  async close(): Promise<void> {
    await this.#unlock();
  }
}

/** Names that a store makes in its folder, and `lost+found`, which the file system makes on a mounted disk. */
const OWN = ['files', 'batches', 'lost+found'];

/** Refuse a folder that holds other files. A folder that already is a store may hold anything. */
async function refuseForeign(folder: string): Promise<void> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const foreign = names.filter((name) => !OWN.includes(name) && !isLock(name));
  if (foreign.length === 0 || ['files', 'batches'].every((name) => names.includes(name))) return;
  const got = `other files: ${foreign.slice(0, 3).join(', ')}`;
  throw new LockstepError(
    'LS_BATCH_FOLDER',
    `expected an empty folder or one of batches at ${folder}, got ${got}`,
    {
      fix: 'Give --batches a folder of its own; it is made where it is not there.',
      field: 'batches',
    },
  );
}

async function recordsIn(folder: string): Promise<BatchRecord[]> {
  const records: BatchRecord[] = [];
  for (const name of await readdir(folder)) {
    if (!isBatchId(name)) continue;
    const file = path.join(folder, name, 'batch.json');
    await rm(`${file}.tmp`, { force: true });
    const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null;
      throw error;
    });
    // It was made, but no answer reported it.
    if (text === null) await rm(path.join(folder, name), { recursive: true });
    else records.push(readRecord(batchRecord, text, file));
  }
  return records.sort((a, b) => a.created_at - b.created_at || (a.id < b.id ? -1 : 1));
}
