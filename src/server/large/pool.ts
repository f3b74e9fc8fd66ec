// Worker threads for large requests, with a queue of their own: no body holds up the streams that run.
import { Worker } from 'node:worker_threads';
import { builtModule } from '../../paths.ts';
import { HttpError } from '../errors.ts';
import { AdmissionQueue, type Ticket } from '../limits/admission-queue.ts';
import type { Failure, FromWorker, KitSetup, Results, ToWorker, Work } from './protocol.ts';

export interface PoolOptions {
  /** Threads; each works at one request at a time. */
  threads?: number;
  /** Most large requests that wait; the next one gets 429. */
  waiting?: number;
  /** Longest that one may take, in milliseconds; its thread is ended then. */
  milliseconds?: number;
  /** Called after each piece of work, with its seconds. */
  onEnd?: (kind: string, seconds: number) => void;
}

interface Running {
  resolve(result: never): void;
  reject(error: HttpError): void;
}

/** Texts and bodies from this many bytes on are work for a thread: some milliseconds of this one. */
export const LARGE_BYTES = 16_384;

export class WorkPool {
  readonly #queue: AdmissionQueue;
  readonly #milliseconds: number;
  readonly #onEnd: (kind: string, seconds: number) => void;
  readonly #idle: Worker[] = [];
  readonly #all = new Set<Worker>();
  readonly #kits = new Map<number, KitSetup>();
  #lastKit = 0;
  #calls = 0;

  constructor(options: PoolOptions = {}) {
    const { threads = 1, waiting = 16, milliseconds = 60_000, onEnd = () => {} } = options;
    this.#queue = new AdmissionQueue(threads, waiting, threads, 'large requests');
    this.#milliseconds = milliseconds;
    this.#onEnd = onEnd;
  }

  /** Requests that wait for a thread. */
  get waiting(): number {
    return this.#queue.waiting;
  }

  /** Requests that were turned away because too many waited. */
  get refused(): number {
    return this.#queue.refused;
  }

  /** Work may name this kit from now on. */
  add(setup: KitSetup): number {
    this.#lastKit += 1;
    this.#kits.set(this.#lastKit, setup);
    for (const worker of this.#all) tell(worker, this.#lastKit, setup);
    return this.#lastKit;
  }

  /** No work names this kit any more. */
  remove(kit: number): void {
    this.#kits.delete(kit);
    for (const worker of this.#all) tell(worker, kit, null);
  }

  /**
   * Run work in a thread, which is started for the first of it.
   *
   * @param signal ends a wait for a thread; work that has begun runs to its end
   * @throws HttpError: what the work refuses; 429 where too many wait; 503 where it takes too long
   */
  async run<W extends Work>(
    work: W,
    signal: AbortSignal,
    ticket: Ticket = { caller: 'anonymous' },
  ): Promise<Results[W['kind']]> {
    const release = await this.#queue.acquire(signal, ticket);
    const since = performance.now();
    try {
      return (await this.#ask(this.#idle.pop() ?? this.#start(), work)) as Results[W['kind']];
    } finally {
      this.#onEnd(work.kind === 'tool' ? work.tool : work.kind, (performance.now() - since) / 1000);
      release();
    }
  }

  /** End the threads; what waits is refused. Idempotent. */
  async close(): Promise<void> {
    this.#queue.close();
    await Promise.all([...this.#all].map((worker) => worker.terminate()));
  }

  #start(): Worker {
    const worker = new Worker(builtModule('server/large/worker.js'), {
      // Options of the parent (--input-type, --import) are not meant for it.
      execArgv: [],
    });
    // Between requests it does not keep this process alive.
    worker.unref();
    this.#all.add(worker);
    for (const [kit, setup] of this.#kits) tell(worker, kit, setup);
    worker.on('error', () => {});
    worker.once('exit', () => {
      this.#all.delete(worker);
      const at = this.#idle.indexOf(worker);
      if (at !== -1) this.#idle.splice(at, 1);
    });
    return worker;
  }

  #ask(worker: Worker, work: Work): Promise<unknown> {
    const call = ++this.#calls;
    return new Promise<unknown>((resolve, reject: Running['reject']) => {
      const timer = setTimeout(() => {
        settle();
        void worker.terminate();
        const seconds = this.#milliseconds / 1000;
        const words = `Expected to read the request within ${seconds} s; it took longer.`;
        reject(new HttpError(503, words, { code: 'request_too_costly' }));
      }, this.#milliseconds);
      const settle = () => {
        clearTimeout(timer);
        worker.off('message', onMessage);
        worker.off('error', onEnd);
        worker.off('exit', onEnd);
      };
      const onMessage = (message: FromWorker) => {
        if (message.call !== call) return;
        settle();
        this.#idle.push(worker);
        if ('failure' in message) reject(errorOf(message.failure));
        else resolve(message.result);
      };
      const onEnd = (cause: unknown) => {
        settle();
        const words = 'The thread that reads large requests has ended; send the request again.';
        reject(new HttpError(503, words, { code: 'worker_ended', retryAfter: 1, cause }));
      };
      worker.on('message', onMessage);
      worker.on('error', onEnd);
      worker.on('exit', onEnd);
      worker.postMessage({ call, ...work } satisfies ToWorker);
    });
  }
}

function tell(worker: Worker, kit: number, setup: KitSetup | null): void {
  worker.postMessage({ kit, setup } satisfies ToWorker);
}

function errorOf({ status, message, stack, retryAfter, ...more }: Failure): HttpError {
  return new HttpError(status, message, {
    type: more.type,
    param: more.param,
    ...(more.code === null ? {} : { code: more.code }),
    ...(retryAfter === undefined ? {} : { retryAfter }),
    // A refusal explains itself; of a defect the log tells where it was.
    ...(status >= 500 ? { cause: stack } : {}),
  });
}
