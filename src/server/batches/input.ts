// The input file of a batch: every line is checked once, and its byte offset is kept.
import { type FileHandle, open } from 'node:fs/promises';
import { setImmediate as pause } from 'node:timers/promises';
import { type Expected, type LineRequest, type Problem, readLine } from './line.ts';
import { linesOf } from './lines.ts';

/** Most lines of a batch. */
export const MOST_LINES = 50_000;
/** Most problems that are reported; a file may have one for each line. */
const MOST_PROBLEMS = 100;

export interface InputRules extends Expected {
  /** Most bytes of a line. */
  lineBytes: number;
}

export class InvalidInput extends Error {
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(problems[0]?.message);
    this.problems = problems;
  }
}

/** Requests of an input file that was found good, read from the disk one by one. */
export class BatchInput {
  readonly #handle: FileHandle;
  readonly #rules: InputRules;
  /** First byte and length of each request's line, one after the other. */
  readonly #offsets: Float64Array;
  /** The number of each request by its `custom_id`, until `forgetIds`. */
  #ids: Map<string, number>;

  private constructor(
    handle: FileHandle,
    rules: InputRules,
    offsets: Float64Array,
    ids: Map<string, number>,
  ) {
    this.#handle = handle;
    this.#rules = rules;
    this.#offsets = offsets;
    this.#ids = ids;
  }

  /** @throws InvalidInput; the signal's reason */
  static async open(file: string, rules: InputRules, signal: AbortSignal): Promise<BatchInput> {
    const problems: Problem[] = [];
    const offsets: number[] = [];
    const ids = new Map<string, number>();
    let number = 0;
    for await (const { bytes, start, end } of linesOf(file, rules.lineBytes, signal)) {
      number += 1;
      // Streams continue while a large file is read.
      if (number % 64 === 0) await pause();
      signal.throwIfAborted();
      const found = bytes === null ? tooLong(rules.lineBytes, end - start) : look(bytes, rules);
      if (found === null) continue;
      if (offsets.length === 2 * MOST_LINES) {
        const message = `Expected at most ${MOST_LINES} requests in a batch, got more.`;
        throw new InvalidInput([{ code: 'too_many_lines', message, param: null, line: number }]);
      }
      if ('code' in found) problems.push({ ...found, line: number });
      else if (ids.has(found.customId)) problems.push(doubled(number));
      else {
        ids.set(found.customId, offsets.length / 2);
        offsets.push(start, end - start);
      }
      if (problems.length === MOST_PROBLEMS) break;
    }
    if (problems.length === 0 && offsets.length === 0) {
      const message = 'Expected at least one request, got an empty file.';
      problems.push({ code: 'empty_file', message, param: 'input_file_id', line: null });
    }
    if (problems.length > 0) throw new InvalidInput(problems);
    return new BatchInput(await open(file, 'r'), rules, Float64Array.from(offsets), ids);
  }

  get count(): number {
    return this.#offsets.length / 2;
  }

  /** The number of the request with this `custom_id`. */
  numberOf(customId: string): number | undefined {
    return this.#ids.get(customId);
  }

  forgetIds(): void {
    this.#ids = new Map();
  }

  /** Request `number`, from 0. */
  async read(number: number): Promise<LineRequest> {
    const [start = 0, length = 0] = this.#offsets.subarray(2 * number, 2 * number + 2);
    const { buffer, bytesRead } = await this.#handle.read(Buffer.alloc(length), 0, length, start);
    const found = bytesRead === length ? readLine(buffer, this.#rules) : null;
    if (found !== null && 'customId' in found) return found;
    throw new Error('the input file of a batch has changed on the disk');
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/** Null for a line of nothing but white space. */
function look(bytes: Buffer, rules: InputRules) {
  return /^[\t\r ]*$/.test(bytes.toString('latin1', 0, Math.min(bytes.length, 64))) &&
    bytes.toString('latin1').trim() === ''
    ? null
    : readLine(bytes, rules);
}

function tooLong(most: number, got: number) {
  const message = `Expected a line of at most ${most} bytes, got ${got}.`;
  return { code: 'line_too_long', message, param: null };
}

function doubled(line: number): Problem {
  const message = '`custom_id`: expected one that no line before has, got one twice.';
  return { code: 'duplicate_custom_id', message, param: 'custom_id', line };
}
