// The main thread's end of the worker: calls with answers, and what happens when the worker dies.
import { Worker } from 'node:worker_threads';
import { silenceTelemetry } from '../../bridge/environment.ts';
import { LockstepError } from '../../errors.ts';
import { builtModule } from '../../paths.ts';
import {
  type Answers,
  type FromWorker,
  flags,
  type Request,
  type ToWorker,
  type WorkerSetup,
} from './protocol.ts';

interface Waiting {
  resolve: (answer: never) => void;
  reject: (error: LockstepError) => void;
}

/** Longest that leaving the process waits for a run of the graph, in milliseconds. */
const SETTLE_MS = 30_000;

export class Connection {
  readonly #worker: Worker;
  readonly #flags: Int32Array;
  readonly #exited: Promise<void>;
  readonly #waiting = new Map<number, Waiting>();
  #calls = 0;
  #end: LockstepError | null = null;
  #lose: (error: LockstepError) => void = () => {};
  /** Settles with LS_ENGINE_CRASHED when the worker has ended by itself, also while no call ran. */
  readonly lost = new Promise<LockstepError>((resolve) => {
    this.#lose = resolve;
  });
  #closing = false;

  private constructor(worker: Worker, shared: Int32Array) {
    this.#worker = worker;
    this.#flags = shared;
    process.on('exit', this.#settle);
    this.#exited = new Promise((resolve) => {
      worker.once('exit', () => {
        process.off('exit', this.#settle);
        resolve();
      });
    });
    worker.on('message', (message: FromWorker) => this.#receive(message));
    worker.on('error', (cause) => this.#fail(crashed(cause)));
    worker.on('exit', (code) => this.#fail(crashed(new Error(`exit code ${code}`))));
  }

  /** Start a worker and wait until its graph is loaded. */
  static async start(setup: Omit<WorkerSetup, 'flags'>): Promise<Connection> {
    // Here, not in the worker: what a worker sets does not reach native code.
    silenceTelemetry();
    const shared = new Int32Array(new SharedArrayBuffer(8));
    const worker = new Worker(builtModule('engines/onnx/worker.js'), {
      workerData: { ...setup, flags: shared } satisfies WorkerSetup,
      // Options of the parent (--input-type, --import) are not meant for it.
      execArgv: [],
    });
    const connection = new Connection(worker, shared);
    try {
      await new Promise<void>((resolve, reject) => {
        connection.#waiting.set(0, { resolve, reject });
      });
    } catch (error) {
      await worker.terminate();
      throw error;
    }
    connection.#rest();
    return connection;
  }

  call<K extends Request['kind']>(
    request: Request & { kind: K },
    transfer: ArrayBuffer[] = [],
  ): Promise<Answers[K]> {
    return new Promise((resolve, reject) => {
      if (this.#end !== null) return reject(this.#end);
      const call = ++this.#calls;
      this.#waiting.set(call, { resolve, reject });
      this.#worker.ref();
      this.#worker.postMessage({ call, ...request } as ToWorker, transfer);
    });
  }

  /** Stop the worker, after the run that it is in; calls still waiting are refused at once. */
  async close(): Promise<void> {
    this.#fail(new LockstepError('LS_ENGINE_CLOSED', 'expected an open engine, got a closed one'));
    this.#closing = true;
    this.#worker.ref();
    this.#worker.postMessage({ call: -1, kind: 'stop', session: 0 } satisfies ToWorker);
    await this.#exited;
  }

  /** The process leaves: let the worker come to rest first, for it is ended wherever it is. */
  readonly #settle = (): void => {
    Atomics.store(this.#flags, flags.stopping, 1);
    Atomics.wait(this.#flags, flags.running, 1, SETTLE_MS);
  };

  #receive(message: FromWorker): void {
    const waiting = this.#waiting.get(message.call);
    this.#waiting.delete(message.call);
    this.#rest();
    if ('answer' in message) {
      waiting?.resolve(message.answer as never);
      return;
    }
    const { code, message: text, fix } = message.failure;
    waiting?.reject(
      new LockstepError(code as `LS_${string}`, text, fix === undefined ? {} : { fix }),
    );
  }

  /** An engine at rest does not keep the process alive; one that is being closed does, until it has ended. */
  #rest(): void {
    if (this.#waiting.size === 0 && !this.#closing) this.#worker.unref();
  }

  #fail(error: LockstepError): void {
    if (this.#end === null && error.code !== 'LS_ENGINE_CLOSED') this.#lose(error);
    this.#end ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#end);
    this.#waiting.clear();
  }
}

function crashed(cause: Error): LockstepError {
  return new LockstepError(
    'LS_ENGINE_CRASHED',
    `expected the engine's worker thread to run, but it stopped: ${cause.message}`,
    { fix: 'Open the engine again, then open new sessions.', cause },
  );
}
