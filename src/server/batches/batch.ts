// One batch from its validation to its files. Its record on the disk is written before any answer reports it.
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { HttpError } from '../errors.ts';
import { syncFolder, writeDurably } from './durable.ts';
import type { FileStore } from './files.ts';
import { newFileId, seconds } from './ids.ts';
import { BatchInput, type InputRules, InvalidInput } from './input.ts';
import type { Problem } from './line.ts';
import { answersFile, Progress, type Side, trimAnswers } from './progress.ts';
import { type BatchRecord, batchObject, type End, hasEnded, type Pause } from './record.ts';

/** Kept so that a full disk still has room for the record that says so. */
const SPARE_BYTES = 16 * 1024;
/** Milliseconds until another try where the disk did not take the final record. */
const AGAIN_MS = 2_000;

/** What a batch needs from `Batches`, which keeps all of them. */
export interface BatchHost {
  files: FileStore;
  rules(endpoint: BatchRecord['endpoint']): InputRules;
  /** Called when the record has changed. */
  changed(batch: Batch): void;
  /** Called with an error that can no longer be sent to a client. */
  failed(batch: Batch, error: unknown): void;
}

const STAMPS = {
  completed: 'completed_at',
  failed: 'failed_at',
  expired: 'expired_at',
  cancelled: 'cancelled_at',
} as const;

export class Batch {
  readonly folder: string;
  readonly #host: BatchHost;
  readonly #record: BatchRecord;
  #progress: Progress | null = null;
  /** Lines that run, with what stops each. */
  readonly #running = new Map<number, AbortController>();
  readonly #stopReading = new AbortController();
  readonly #closing = new AbortController();
  #ending: Promise<void> | null = null;
  #begun: Promise<void> = Promise.resolve();
  #opening: Promise<void> = Promise.resolve();
  #saving: Promise<void> = Promise.resolve();
  #idle: (() => void)[] = [];
  /** Its lines wait until then. */
  paused: Pause | null = null;
  /** Tries of lines that failed and may do better another time. */
  readonly tries = new Map<number, number>();

  constructor(folder: string, record: BatchRecord, host: BatchHost) {
    this.folder = folder;
    this.#record = record;
    this.#host = host;
  }

  get id(): string {
    return this.#record.id;
  }

  get owner(): string {
    return this.#record.owner;
  }

  get endpoint(): BatchRecord['endpoint'] {
    return this.#record.endpoint;
  }

  get record(): Readonly<BatchRecord> {
    return this.#record;
  }

  get ended(): boolean {
    return hasEnded(this.#record);
  }

  /** Requests without an answer. */
  get left(): number {
    return this.#ending === null ? (this.#progress?.left ?? 0) : 0;
  }

  get running(): number {
    return this.#running.size;
  }

  toObject(): object {
    const now = seconds();
    const paused = this.paused !== null && this.paused.until > now ? this.paused : null;
    return batchObject(this.#record, paused);
  }

  /** Write the record of a new batch. @throws HttpError 507 */
  async create(): Promise<void> {
    await writeDurably(this.#spare, ' '.repeat(SPARE_BYTES));
    await this.#save();
    await syncFolder(path.dirname(this.folder));
  }

  /** Go on where the record says: check the input, run lines, or put the files in place. */
  begin(): Promise<void> {
    // It may have been cancelled before its turn.
    if (this.#ending !== null || this.ended) return this.#begun;
    this.#begun = this.#begin().catch((error) => void this.fail(error));
    return this.#begun;
  }

  async #begin(): Promise<void> {
    const record = this.#record;
    if (record.ending !== null) {
      this.#ending = this.#putInPlace(record.ending, { output: 0, error: 0 }).catch((error) => {
        this.#host.failed(this, error);
      });
      return;
    }
    const opened = this.#open();
    this.#opening = opened.then(
      () => {},
      () => {},
    );
    try {
      await opened;
    } catch (error) {
      if (this.#ending !== null || this.#stopReading.signal.aborted) return;
      if (!(error instanceof InvalidInput)) throw error;
      void this.#end('failed', error.problems);
      return;
    }
    this.#count();
    if (record.status === 'cancelling') void this.#end('cancelled');
    if (this.#ending !== null) return;
    if (record.status === 'validating') {
      record.status = 'in_progress';
      record.in_progress_at = seconds();
      await this.#save();
    }
    if (this.#progress?.left === 0) void this.#end('completed');
    this.#host.changed(this);
  }

  async #open(): Promise<void> {
    const { files } = this.#host;
    const { input_file_id: id, endpoint, in_progress_at: since } = this.#record;
    if (!files.has(id)) {
      const message = `Expected the input file ${id}, which is gone.`;
      throw new InvalidInput([{ code: 'file_not_found', message, param: null, line: null }]);
    }
    const rules = this.#host.rules(endpoint);
    // Lines that were found good once stay so, whatever is served now: each of them is answered.
    const now = since === null ? rules : { ...rules, models: null };
    const input = await BatchInput.open(files.content(id), now, this.#stopReading.signal);
    try {
      this.#progress = await Progress.open(this.folder, input, files);
    } catch (error) {
      await input.close();
      throw error;
    }
  }

  /** The next line to run: enter it with `enter`. Null: none waits. */
  take(): number | null {
    if (this.#ending !== null || this.#record.status !== 'in_progress') return null;
    return this.#progress?.take() ?? null;
  }

  /** A line runs until `leave`. */
  enter(number: number): AbortController {
    const controller = new AbortController();
    this.#running.set(number, controller);
    return controller;
  }

  /** A line does not run any more, whatever came of it. */
  leave(number: number): void {
    this.#running.delete(number);
    if (this.#running.size > 0) return;
    for (const tell of this.#idle.splice(0)) tell();
    if (this.#ending === null && this.#progress?.left === 0) void this.#end('completed');
  }

  read(number: number) {
    return (this.#progress as Progress).input.read(number);
  }

  /** Let it run again. */
  putBack(number: number): void {
    this.#progress?.putBack(number);
  }

  /** @param rest fields `response` and `error` as JSON text */
  async write(number: number, side: Side, customId: string, rest: string): Promise<void> {
    await (this.#progress as Progress).write(number, side, customId, rest);
    this.tries.delete(number);
    this.#count();
    this.#host.changed(this);
  }

  /** @throws HttpError 400 where it has ended; 507 */
  async cancel(): Promise<void> {
    const record = this.#record;
    if (record.status === 'cancelling' || record.status === 'cancelled') return;
    if (this.#ending !== null || this.ended) {
      const words = `Expected a batch that is being worked on, got one with the status ${record.status}.`;
      throw new HttpError(400, words, { code: 'batch_not_cancellable' });
    }
    record.status = 'cancelling';
    record.cancelling_at = seconds();
    const ending = this.#end('cancelled');
    await this.#save().catch((error) => this.#host.failed(this, error));
    this.#host.changed(this);
    ending.catch(() => {});
  }

  /** Its time is over: what has no answer gets none. */
  expire(): void {
    if (this.#ending === null && !this.ended) void this.#end('expired');
  }

  /** End it with an error. Answers that exist are kept. */
  async fail(error: unknown): Promise<void> {
    const known = error instanceof HttpError;
    if (!known) this.#host.failed(this, error);
    const { code, message } = known
      ? error
      : {
          code: 'internal_error',
          message: 'Internal server error. Search the server log for the ID of this batch.',
        };
    await this.#end('failed', [
      { code: code ?? 'internal_error', message, param: null, line: null },
    ]);
  }

  /** Stop lines, leave all as it is, for the end of the server. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#stopReading.abort();
    for (const controller of this.#running.values()) controller.abort();
    await this.#begun;
    await this.#quiet();
    await this.#ending;
    if (!this.ended) await this.#progress?.close();
  }

  #end(how: End, problems: readonly Problem[] = []): Promise<void> {
    this.#ending ??= this.#finish(how, problems).catch((error) => {
      this.#host.failed(this, error);
    });
    return this.#ending;
  }

  async #finish(how: End, problems: readonly Problem[]): Promise<void> {
    const record = this.#record;
    // Of a batch that has answers they are to be found first.
    if (record.in_progress_at === null) this.#stopReading.abort();
    await this.#opening;
    for (const controller of this.#running.values()) controller.abort();
    await this.#quiet();
    const progress = this.#progress;
    let sizes = { output: 0, error: 0 };
    let reserved = sizes;
    let end = how;
    const told = [...problems];
    if (progress !== null) {
      try {
        if (how === 'expired') await this.#writeExpired(progress);
      } catch (error) {
        if (!(error instanceof HttpError)) throw error;
        end = 'failed';
        told.push({ code: error.code ?? '', message: error.message, param: null, line: null });
      }
      this.#count();
      sizes = reserved = progress.sizes;
      await progress.close();
      // What it knew of each line is not needed any more.
      this.#progress = null;
    } else if (record.in_progress_at !== null) sizes = await trimAnswers(this.folder);
    record.errors = told;
    record.ending = end;
    if (record.status !== 'cancelling') record.status = 'finalizing';
    if (record.in_progress_at !== null) record.finalizing_at = seconds();
    if (sizes.output > 0) record.output_file_id = newFileId();
    if (sizes.error > 0) record.error_file_id = newFileId();
    await this.#insist(() => this.#save());
    this.#host.changed(this);
    await this.#putInPlace(end, reserved);
  }

  async #putInPlace(end: End, reserved: Record<Side, number>): Promise<void> {
    const record = this.#record;
    const { owner, id, created_at: _ } = record;
    for (const [side, file] of [
      ['output', record.output_file_id],
      ['error', record.error_file_id],
    ] as const) {
      if (file === null) continue;
      const made = {
        id: file,
        owner,
        filename: `${id}_${side}.jsonl`,
        purpose: 'batch_output' as const,
        created_at: seconds(),
      };
      const from = answersFile(this.folder, side);
      await this.#insist(() => this.#host.files.adopt(made, from, reserved[side]));
    }
    const done = { ...record, status: end, ending: null, [STAMPS[end]]: seconds() };
    await this.#insist(() => this.#save(done));
    Object.assign(record, done);
    for (const name of ['spare', 'output.jsonl', 'error.jsonl']) {
      await rm(path.join(this.folder, name), { force: true });
    }
    this.#host.changed(this);
  }

  async #writeExpired(progress: Progress): Promise<void> {
    const message = 'This request could not be executed before the completion window expired.';
    const rest = `"response":null,"error":${JSON.stringify({ code: 'batch_expired', message })}`;
    for (let number = progress.take(); number !== null; number = progress.take()) {
      const { customId } = await progress.input.read(number);
      await progress.write(number, 'error', customId, rest);
    }
  }

  /** Until no line runs. */
  #quiet(): Promise<void> {
    if (this.#running.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #count(): void {
    if (this.#progress !== null) this.#record.request_counts = this.#progress.counts;
  }

  get #spare(): string {
    return path.join(this.folder, 'spare');
  }

  /** Do what ends the batch until the disk takes it: first with the spare room, then again and again. */
  async #insist(act: () => Promise<void>): Promise<void> {
    for (let tries = 0; ; tries++) {
      try {
        return await act();
      } catch (error) {
        if (this.#closing.signal.aborted) throw error;
        await rm(this.#spare, { force: true });
        if (tries === 1) this.#host.failed(this, error);
        if (tries > 0) {
          await sleep(AGAIN_MS, undefined, { signal: this.#closing.signal, ref: false });
        }
      }
    }
  }

  #save(record = this.#record): Promise<void> {
    const file = path.join(this.folder, 'batch.json');
    const save = () => writeDurably(file, JSON.stringify(record));
    const mine = this.#saving.then(save);
    this.#saving = mine.catch(() => {});
    return mine;
  }
}
