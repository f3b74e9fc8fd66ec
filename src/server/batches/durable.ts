// Files that outlive a crash and a power cut: written whole beside their place, or line by line to the end.
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { HttpError } from '../errors.ts';

/** Codes of the system for a file that cannot grow. */
const FULL = ['ENOSPC', 'EDQUOT', 'EFBIG'];

/** Write a small file whole: a reader finds it as it was before or as it is after. */
export async function writeDurably(file: string, text: string): Promise<void> {
  const beside = `${file}.tmp`;
  try {
    const handle = await open(beside, 'w', 0o600);
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(beside, file);
  } catch (error) {
    await rm(beside, { force: true });
    throw storageError(error);
  }
  await syncFolder(path.dirname(file));
}

/** Make what was created, renamed or removed in a folder outlive a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  // Windows has no handles of folders.
  if (process.platform === 'win32') return;
  const handle = await open(folder, constants.O_RDONLY);
  try {
    await handle.sync();
  } catch (error) {
    throw storageError(error);
  } finally {
    await handle.close();
  }
}

/** A file to which whole lines are appended. What failed half-way is taken back. */
export class LineFile {
  readonly file: string;
  readonly #handle: FileHandle;
  #size: number;

  private constructor(file: string, handle: FileHandle, size: number) {
    this.file = file;
    this.#handle = handle;
    this.#size = size;
  }

  /** @param size bytes of it that are good; the rest is cut off */
  static async open(file: string, size: number): Promise<LineFile> {
    try {
      const handle = await open(file, constants.O_RDWR | constants.O_CREAT, 0o600);
      await handle.truncate(size).catch(async (error: unknown) => {
        await handle.close();
        throw error;
      });
      return new LineFile(file, handle, size);
    } catch (error) {
      throw storageError(error);
    }
  }

  get size(): number {
    return this.#size;
  }

  /** Once this has returned, the text stays. @throws HttpError 507; the file is then as it was */
  async append(text: string): Promise<void> {
    const bytes = Buffer.from(text);
    try {
      for (let done = 0; done < bytes.length; ) {
        const left = bytes.length - done;
        const { bytesWritten } = await this.#handle.write(bytes, done, left, this.#size + done);
        done += bytesWritten;
      }
      await this.#handle.datasync();
      this.#size += bytes.length;
    } catch (error) {
      await this.#handle.truncate(this.#size);
      throw storageError(error);
    }
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/** A failure of the disk, as an error for a client and a batch; any other error unchanged. */
export function storageError(error: unknown): unknown {
  if (error instanceof HttpError) return error;
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined) return error;
  if (FULL.includes(code)) {
    const words = 'Expected room on the disk for files of batches; it is full.';
    return new HttpError(507, words, { code: 'disk_full', cause: error });
  }
  const words = `Expected files of batches to be readable and writable; the system says ${code}.`;
  return new HttpError(507, words, { code: 'storage_failed', cause: error });
}
