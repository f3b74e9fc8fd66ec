// Which requests of a batch are answered: the two files of answers are the only account of it, so that it is
// right whenever the process ends.
import path from 'node:path';
import { LineFile, syncFolder } from './durable.ts';
import type { FileStore } from './files.ts';
import { newLineId } from './ids.ts';
import type { BatchInput } from './input.ts';
import { linesOf } from './lines.ts';

/** Where an answer goes. */
export type Side = 'output' | 'error';

/** Longest line that is read back; answers have no limit of their own. */
const MOST_ANSWER = 512 * 1024 * 1024;

export const answersFile = (folder: string, side: Side): string =>
  path.join(folder, `${side}.jsonl`);

export class Progress {
  readonly input: BatchInput;
  readonly #store: FileStore;
  readonly #files: Record<Side, LineFile>;
  readonly #counts: Record<Side, number>;
  readonly #done: Uint8Array;
  /** Requests from here on were not begun yet. */
  #next = 0;
  /** Requests that were begun and are to run again. */
  readonly #again: number[] = [];
  #turn: Promise<void> = Promise.resolve();

  private constructor(
    input: BatchInput,
    store: FileStore,
    files: Record<Side, LineFile>,
    counts: Record<Side, number>,
    done: Uint8Array,
  ) {
    this.input = input;
    this.#store = store;
    this.#files = files;
    this.#counts = counts;
    this.#done = done;
  }

  /** Go on where the files in the folder end. @throws HttpError 507 */
  static async open(folder: string, input: BatchInput, store: FileStore): Promise<Progress> {
    const done = new Uint8Array(input.count);
    const output = await readBack(answersFile(folder, 'output'), input, done);
    const error = await readBack(answersFile(folder, 'error'), input, done);
    input.forgetIds();
    const reserved = output.size + error.size;
    store.reserve(reserved);
    const opened: LineFile[] = [];
    const openSide = async (side: Side, size: number): Promise<LineFile> => {
      const file = await LineFile.open(answersFile(folder, side), size);
      opened.push(file);
      return file;
    };
    try {
      const files = {
        output: await openSide('output', output.size),
        error: await openSide('error', error.size),
      };
      await syncFolder(folder);
      return new Progress(input, store, files, { output: output.count, error: error.count }, done);
    } catch (failure) {
      store.release(reserved);
      await Promise.all(opened.map((file) => file.close()));
      throw failure;
    }
  }

  /** Answered with success and without, and how many there are. */
  get counts(): { total: number; completed: number; failed: number } {
    return {
      total: this.input.count,
      completed: this.#counts.output,
      failed: this.#counts.error,
    };
  }

  /** Requests without an answer, those that run among them. */
  get left(): number {
    return this.input.count - this.#counts.output - this.#counts.error;
  }

  get sizes(): Record<Side, number> {
    return { output: this.#files.output.size, error: this.#files.error.size };
  }

  /** The next request to run; null where none waits. */
  take(): number | null {
    const again = this.#again.shift();
    if (again !== undefined) return again;
    while (this.#next < this.input.count && this.#done[this.#next] === 1) this.#next += 1;
    return this.#next < this.input.count ? this.#next++ : null;
  }

  /** It ran in vain, and is to run again before those that were not begun. */
  putBack(number: number): void {
    this.#again.push(number);
    this.#again.sort((a, b) => a - b);
  }

  /**
   * Write down an answer; once this has returned, it stays and the request does not run again.
   *
   * @param rest fields `response` and `error` as JSON text
   * @throws HttpError 507 `disk_full`, `storage_full`
   */
  write(number: number, side: Side, customId: string, rest: string): Promise<void> {
    const id = JSON.stringify(newLineId());
    const text = `{"id":${id},"custom_id":${JSON.stringify(customId)},${rest}}\n`;
    const mine = this.#turn.then(async () => {
      const bytes = Buffer.byteLength(text);
      this.#store.reserve(bytes);
      try {
        await this.#files[side].append(text);
      } catch (error) {
        this.#store.release(bytes);
        throw error;
      }
      this.#done[number] = 1;
      this.#counts[side] += 1;
    });
    this.#turn = mine.catch(() => {});
    return mine;
  }

  async close(): Promise<void> {
    await this.#turn;
    await Promise.all([this.#files.output.close(), this.#files.error.close(), this.input.close()]);
  }
}

/** Mark what a file of answers holds as done. A line that was not written to its end does not count. */
async function readBack(
  file: string,
  input: BatchInput,
  done: Uint8Array,
): Promise<{ size: number; count: number }> {
  let size = 0;
  let count = 0;
  for await (const { bytes, end, ended } of linesOf(file, MOST_ANSWER)) {
    const number = ended && bytes !== null ? input.numberOf(customIdOf(bytes)) : undefined;
    if (number === undefined) break;
    done[number] = 1;
    size = end + 1;
    count += 1;
  }
  return { size, count };
}

function customIdOf(bytes: Buffer): string {
  try {
    return String((JSON.parse(bytes.toString('utf8')) as { custom_id?: unknown }).custom_id);
  } catch {
    return '';
  }
}

/** Cut off what was not written to its end. Gives what is left of each file. */
export async function trimAnswers(folder: string): Promise<Record<Side, number>> {
  const sizes = { output: 0, error: 0 };
  for (const side of ['output', 'error'] as const) {
    const file = answersFile(folder, side);
    for await (const { end, ended } of linesOf(file, MOST_ANSWER)) if (ended) sizes[side] = end + 1;
    await (await LineFile.open(file, sizes[side])).close();
  }
  return sizes;
}
