// Files that clients have uploaded and those that batches have written: content and record side by side in a folder.
import {
  type FileHandle,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
} from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { LockstepError } from '../../errors.ts';
import { parseJson } from '../../json.ts';
import { HttpError } from '../errors.ts';
import { storageError, syncFolder, writeDurably } from './durable.ts';
import { isFileId, newFileId, seconds, unknown } from './ids.ts';

const fileRecord = z.strictObject({
  id: z.string().refine(isFileId),
  /** The id of the key that made it, or the name of the caller without one. */
  owner: z.string(),
  filename: z.string(),
  purpose: z.enum(['batch', 'batch_output']),
  bytes: z.int().nonnegative(),
  created_at: z.int(),
});

export type FileRecord = z.infer<typeof fileRecord>;

/** What a file takes at least: a block of the disk. */
const LEAST_BYTES = 4096;

/** What one file takes of the room. */
const cost = (bytes: number): number => Math.max(LEAST_BYTES, bytes);

export class FileStore {
  readonly folder: string;
  /** Most bytes of all files. */
  readonly limit: number;
  readonly #records = new Map<string, FileRecord>();
  /** Content that had no record when the folder was opened. */
  #orphans: string[] = [];
  #used = 0;

  private constructor(folder: string, limit: number) {
    this.folder = folder;
    this.limit = limit;
  }

  /** @throws LS_BATCH_FOLDER for a record that is none */
  static async open(folder: string, limit: number): Promise<FileStore> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const store = new FileStore(folder, limit);
    const content: string[] = [];
    for (const name of await readdir(folder)) {
      const file = path.join(folder, name);
      // A process that was killed had not said yet that it has these.
      if (/\.(part|tmp)$/.test(name) && isFileId(name.slice(0, name.indexOf('.')))) {
        await rm(file, { force: true });
      }
      if (name.endsWith('.jsonl')) content.push(path.parse(name).name);
      if (!name.endsWith('.json')) continue;
      store.#enter(readRecord(fileRecord, await readFile(file, 'utf8'), file));
    }
    store.#orphans = content.filter((id) => !store.has(id));
    return store;
  }

  /**
   * Remove content that an upload or a deletion left when it was cut off.
   *
   * @param claimed ids of files that batches are about to put in place
   */
  async sweep(claimed: ReadonlySet<string | null>): Promise<void> {
    for (const id of this.#orphans)
      if (!this.has(id) && !claimed.has(id)) await rm(this.content(id), { force: true });
    this.#orphans = [];
  }

  get used(): number {
    return this.#used;
  }

  /** Take room before it is written. @throws HttpError 507 `storage_full` */
  reserve(bytes: number): void {
    if (this.#used + bytes > this.limit) {
      const words = `Expected files of batches of at most ${this.limit} bytes in all; ${Math.max(0, this.limit - this.#used)} are left. Delete files that are no longer needed.`;
      throw new HttpError(507, words, { code: 'storage_full' });
    }
    this.#used += bytes;
  }

  release(bytes: number): void {
    this.#used -= bytes;
  }

  /** @throws HttpError 404 */
  find(owner: string, id: string, param: string | null = null): FileRecord {
    const record = this.#records.get(id);
    if (record === undefined || record.owner !== owner) throw unknown('file', id, param);
    return record;
  }

  has(id: string): boolean {
    return this.#records.has(id);
  }

  /** The oldest first. */
  list(owner: string): FileRecord[] {
    return [...this.#records.values()]
      .filter((record) => record.owner === owner)
      .sort((a, b) => a.created_at - b.created_at || (a.id < b.id ? -1 : 1));
  }

  /** Where the content of a file is. */
  content(id: string): string {
    return path.join(this.folder, `${id}.jsonl`);
  }

  /** Begin to write a file; `finish` it or `abandon` it. */
  async begin(): Promise<Upload> {
    const id = newFileId();
    try {
      const handle = await open(path.join(this.folder, `${id}.part`), 'wx', 0o600);
      return new Upload(this, id, handle);
    } catch (error) {
      throw storageError(error);
    }
  }

  /**
   * Take over a file that lies somewhere else in the same file system. After a crash the same call finishes what was
   * begun.
   *
   * @param reserved bytes that were reserved for it
   */
  async adopt(record: Omit<FileRecord, 'bytes'>, from: string, reserved: number): Promise<void> {
    if (this.#records.has(record.id)) return;
    const to = this.content(record.id);
    try {
      await rename(from, to).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
      });
      await syncFolder(this.folder);
      const whole = { ...record, bytes: (await stat(to)).size };
      await writeDurably(this.#recordFile(record.id), JSON.stringify(whole));
      this.#enter(whole);
      this.#used -= reserved;
    } catch (error) {
      throw storageError(error);
    }
  }

  async remove(record: FileRecord): Promise<void> {
    // From here on nobody finds it, and no batch can be made of it.
    const found = this.#records.delete(record.id);
    try {
      await rm(this.#recordFile(record.id), { force: true });
      await syncFolder(this.folder);
    } catch (error) {
      if (found) this.#records.set(record.id, record);
      throw storageError(error);
    }
    if (found) this.#used -= cost(record.bytes);
    await rm(this.content(record.id), { force: true }).catch((error) => {
      throw storageError(error);
    });
  }

  /** The content lies in its place, and its bytes were reserved. */
  async complete(record: FileRecord, part: string): Promise<void> {
    await rename(part, this.content(record.id));
    await writeDurably(this.#recordFile(record.id), JSON.stringify(record));
    this.#enter(record);
    this.#used -= record.bytes;
  }

  #recordFile(id: string): string {
    return path.join(this.folder, `${id}.json`);
  }

  #enter(record: FileRecord): void {
    this.#records.set(record.id, record);
    this.#used += cost(record.bytes);
  }
}

/** A file that is being written. */
export class Upload {
  readonly #store: FileStore;
  readonly #id: string;
  readonly #handle: FileHandle;
  #bytes = 0;

  constructor(store: FileStore, id: string, handle: FileHandle) {
    this.#store = store;
    this.#id = id;
    this.#handle = handle;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** @throws HttpError 507 */
  async write(bytes: Buffer): Promise<void> {
    this.#store.reserve(bytes.length);
    this.#bytes += bytes.length;
    try {
      await this.#handle.writeFile(bytes);
    } catch (error) {
      throw storageError(error);
    }
  }

  /** Once this has returned, the file stays. @throws HttpError 507 */
  async finish(owner: string, filename: string): Promise<FileRecord> {
    const record: FileRecord = {
      id: this.#id,
      owner,
      filename,
      purpose: 'batch',
      bytes: this.#bytes,
      created_at: seconds(),
    };
    try {
      await this.#handle.sync();
      await this.#handle.close();
      await this.#store.complete(record, this.#part);
    } catch (error) {
      throw storageError(error);
    }
    return record;
  }

  /** Undo all of it. */
  async abandon(): Promise<void> {
    await this.#handle.close().catch(() => {});
    await rm(this.#part, { force: true });
    await rm(this.#store.content(this.#id), { force: true });
    this.#store.release(this.#bytes);
  }

  get #part(): string {
    return path.join(this.#store.folder, `${this.#id}.part`);
  }
}

/**
 * What a record on the disk holds.
 *
 * @throws LS_BATCH_FOLDER for any other text
 */
export function readRecord<T>(schema: z.ZodType<T>, text: string, file: string): T {
  const parsed = schema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  throw new LockstepError(
    'LS_BATCH_FOLDER',
    `expected a record of batches at ${file}, got other content`,
    {
      fix: 'Move the damaged file out of the folder. The batch or file it described is lost.',
      field: 'batches',
    },
  );
}
