// The batches of one server: made, found again after a restart, worked on, ended.
import { mkdir, rm } from 'node:fs/promises';
import type { Logger } from 'pino';
import { Counter, Gauge, type Registry } from 'prom-client';
import type { AuditLog } from '../audit.ts';
import { busy, HttpError } from '../errors.ts';
import type { Caller } from '../keys/caller.ts';
import { Batch, type BatchHost } from './batch.ts';
import type { FileStore } from './files.ts';
import { newBatchId, seconds, unknown } from './ids.ts';
import type { InputRules } from './input.ts';
import type { BatchRecord } from './record.ts';
import { type BatchRequest, secondsOf } from './request.ts';
import type { Outcome } from './run-line.ts';
import { Scheduler, type SchedulerParts } from './scheduler.ts';
import type { BatchStore } from './store.ts';

/** Most batches of one owner that are being worked on. */
const MOST_OPEN = 50;
/** Most batches of one owner that are remembered: the oldest that have ended go first. */
const MOST_KEPT = 1000;
/** Records of batches that have ended go after so many seconds. */
const KEPT = 30 * 24 * 3600;

export interface BatchesParts extends Omit<SchedulerParts, 'onOutcome'> {
  store: BatchStore;
  /** What lines are to be, as the server is now. */
  rules(): Omit<InputRules, 'endpoint'>;
  log: Logger;
  audit: AuditLog | null;
  registry: Registry;
}

export class Batches {
  readonly files: FileStore;
  readonly #store: BatchStore;
  readonly #parts: BatchesParts;
  readonly #all = new Map<string, Batch>();
  /** Those that are being made: they count as open, and hold their file, before they stand in the list. */
  readonly #making = new Set<{ owner: string; file: string }>();
  readonly #scheduler: Scheduler;
  readonly #host: BatchHost;
  /** Inputs are read one after the other. */
  #turn: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(parts: BatchesParts) {
    this.#parts = parts;
    this.#store = parts.store;
    this.files = parts.store.files;
    const onOutcome = this.#watch(parts.registry);
    this.#scheduler = new Scheduler({ ...parts, onOutcome });
    this.#host = {
      files: this.files,
      rules: (endpoint) => ({ ...parts.rules(), endpoint }),
      changed: (batch) => this.#changed(batch),
      failed: (batch, error) => parts.log.error({ batch: batch.id, err: error }, 'batch failed'),
    };
  }

  /** Go on with what the folder holds. */
  start(): void {
    for (const record of this.#store.found) {
      const batch = new Batch(this.#store.folderOf(record.id), record, this.#host);
      this.#all.set(record.id, batch);
      if (!batch.ended) this.#begin(batch);
    }
    const ids = this.#open().flatMap(
      ({ record: { output_file_id: output, error_file_id: error } }) => [output, error],
    );
    this.#turn = this.#turn.then(() => this.files.sweep(new Set(ids)));
    this.#turn.catch((error) => this.#parts.log.error({ err: error }, 'files of batches'));
  }

  /** @throws HttpError 400, 404, 429, 507 */
  async create(caller: Caller, asked: BatchRequest): Promise<Batch> {
    const owner = ownerOf(caller);
    const { input_file_id: id, endpoint, completion_window: window } = asked;
    const file = this.files.find(owner, id, 'input_file_id');
    if (file.purpose !== 'batch') {
      const words = '`input_file_id`: expected a file with the purpose `batch`, got another one.';
      throw new HttpError(400, words, { param: 'input_file_id', code: 'invalid_value' });
    }
    const created = seconds();
    const expires = created + secondsOf(window);
    const mine = [...this.#open(), ...this.#making].filter((one) => one.owner === owner);
    if (mine.length >= MOST_OPEN) {
      const words = `Expected at most ${MOST_OPEN} batches of one key that have not ended.`;
      throw busy(words, 60, 'too_many_batches');
    }
    if (this.#closed) throw shuttingDown();
    const making = { owner, file: id };
    this.#making.add(making);
    try {
      await this.#forget(owner);
      const record = newRecord(newBatchId(), owner, created, expires, { ...asked, endpoint });
      const batch = await this.#make(record);
      this.#all.set(batch.id, batch);
      this.#tell(batch, 'batch', { total: null });
      this.#begin(batch);
      return batch;
    } finally {
      this.#making.delete(making);
    }
  }

  async #make(record: BatchRecord): Promise<Batch> {
    const folder = this.#store.folderOf(record.id);
    const batch = new Batch(folder, record, this.#host);
    try {
      await mkdir(folder, { mode: 0o700 });
      await batch.create();
    } catch (error) {
      await rm(folder, { recursive: true, force: true });
      throw error;
    }
    return batch;
  }

  /** @throws HttpError 404 */
  find(caller: Caller, id: string): Batch {
    const batch = this.#all.get(id);
    if (batch === undefined || batch.owner !== ownerOf(caller)) throw unknown('batch', id, null);
    return batch;
  }

  /** The newest first. */
  list(caller: Caller): Batch[] {
    const owner = ownerOf(caller);
    return [...this.#all.values()].filter((batch) => batch.owner === owner).reverse();
  }

  /** Whether a batch that has not ended reads this file. */
  uses(fileId: string): boolean {
    return (
      this.#open().some((batch) => batch.record.input_file_id === fileId) ||
      [...this.#making].some(({ file }) => file === fileId)
    );
  }

  /** A slot may be idle. */
  wake(): void {
    this.#scheduler.wake();
  }

  /** Begin no more lines: the server ends. */
  stop(): void {
    this.#closed = true;
    this.#scheduler.stop();
  }

  /** Running lines may end for so long; the others run after the next start. */
  async close(drainMs: number): Promise<void> {
    this.stop();
    await this.#scheduler.drain(drainMs);
    await Promise.all([...this.#all.values()].map((batch) => batch.close()));
    await this.#turn.catch(() => {});
    await this.#store.close();
  }

  /** Forget batches that ended long ago, or that are too many. Their files stay. */
  async #forget(owner: string): Promise<void> {
    const ended = [...this.#all.values()].filter((one) => one.ended && one.owner === owner);
    const tooMany = ended.slice(0, Math.max(0, ended.length - MOST_KEPT));
    const before = seconds() - KEPT;
    const old = ended.filter(({ record }) => Math.max(...stampsOf(record)) < before);
    for (const { id } of [...tooMany, ...old]) {
      this.#all.delete(id);
      await rm(this.#store.folderOf(id), { recursive: true, force: true });
    }
  }

  #begin(batch: Batch): void {
    this.#turn = this.#turn.then(() => (this.#closed ? undefined : batch.begin()));
    this.#scheduler.add(batch);
  }

  #changed(batch: Batch): void {
    const { ended, record } = batch;
    if (ended) this.#tell(batch, 'batch', record.request_counts);
    else this.#scheduler.wake();
  }

  /** Ids and counts, never a text. */
  #tell({ id, record, owner }: Batch, event: string, counts: object): void {
    const { status, errors, input_file_id: input } = record;
    const fields = { batch: id, owner, status, input, code: errors[0]?.code ?? null, ...counts };
    this.#parts.audit?.write(event, fields);
    this.#parts.log.info(fields, event);
  }

  #watch(registry: Registry): (outcome: Outcome) => void {
    const registers = [registry];
    const gauges: [name: string, help: string, value: () => number][] = [
      ['lockstep_batch_lines_waiting', 'Lines of batches without an answer.', () => this.#left()],
      ['lockstep_batch_lines_running', 'Lines of batches that run.', () => this.#scheduler.running],
      ['lockstep_batches_open', 'Batches that have not ended.', () => this.#open().length],
      ['lockstep_batch_bytes', 'Bytes of files of batches.', () => this.files.used],
      [
        'lockstep_batch_bytes_limit',
        'Limit for bytes of files of batches (--batch-bytes).',
        () => this.files.limit,
      ],
    ];
    for (const [name, help, value] of gauges) {
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value());
        },
      });
    }
    const lines = new Counter({
      name: 'lockstep_batch_lines_total',
      help: 'Lines of batches answered, by outcome: completed, failed.',
      labelNames: ['outcome'],
      registers,
    });
    const again = new Counter({
      name: 'lockstep_batch_lines_put_back_total',
      help: 'Lines of batches that are to run again, by reason: gave_way, stopped, or the code of a refusal.',
      labelNames: ['reason'],
      registers,
    });
    return (outcome) => {
      if (typeof outcome === 'string') lines.inc({ outcome });
      else again.inc({ reason: outcome.again });
    };
  }

  #open(): Batch[] {
    return [...this.#all.values()].filter(({ ended }) => !ended);
  }

  #left(): number {
    return this.#open().reduce((sum, { left }) => sum + left, 0);
  }
}

/** Whose a batch is: the key's id; without keys one owner has them all. */
export function ownerOf({ id, name }: Caller): string {
  return id ?? name;
}

function newRecord(
  id: string,
  owner: string,
  created_at: number,
  expires_at: number,
  { endpoint, input_file_id, completion_window, metadata }: BatchRequest,
): BatchRecord {
  return {
    lockstepBatch: 1,
    id,
    owner,
    endpoint,
    input_file_id,
    completion_window,
    metadata: metadata ?? null,
    status: 'validating',
    ending: null,
    created_at,
    expires_at,
    in_progress_at: null,
    finalizing_at: null,
    completed_at: null,
    failed_at: null,
    expired_at: null,
    cancelling_at: null,
    cancelled_at: null,
    output_file_id: null,
    error_file_id: null,
    request_counts: { total: 0, completed: 0, failed: 0 },
    errors: [],
  };
}

/** When the last thing happened to it. */
function stampsOf(record: BatchRecord): number[] {
  const { expires_at, completed_at, failed_at, expired_at, cancelled_at } = record;
  const ends = [completed_at, failed_at, expired_at, cancelled_at].filter((at) => at !== null);
  return ends.length === 0 ? [expires_at, seconds()] : ends;
}

function shuttingDown(): HttpError {
  const words = 'The server is shutting down.';
  return new HttpError(503, words, { code: 'shutting_down', retryAfter: 5 });
}
