// The main thread's end of the worker: calls with answers, and what happens when the worker dies.
import { Worker } from 'node:worker_threads';
import { LockstepError } from '../../errors.ts';
import { builtModule } from '../../paths.ts';
import type { Answers, FromWorker, Request, ToWorker, WorkerSetup } from './protocol.ts';

interface Waiting {
  resolve: (answer: never) => void;
  reject: (error: LockstepError) => void;
}

export class Connection {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #calls = 0;
  #end: LockstepError | null = null;

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.on('message', (message: FromWorker) => this.#receive(message));
    worker.on('error', (cause) => this.#fail(crashed(cause)));
    worker.on('exit', (code) => this.#fail(crashed(new Error(`exit code ${code}`))));
  }

  /** Start a worker and wait until its graph is loaded. */
  static async start(setup: WorkerSetup): Promise<Connection> {
    const worker = new Worker(builtModule('engines/onnx/worker.js'), { workerData: setup });
    const connection = new Connection(worker);
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

  /** Stop the worker; calls still waiting are refused. */
  async close(): Promise<void> {
    this.#fail(new LockstepError('LS_ENGINE_CLOSED', 'expected an open engine, got a closed one'));
    await this.#worker.terminate();
  }

  #receive(message: FromWorker): void {
    const waiting = this.#waiting.get(message.call);
    this.#waiting.delete(message.call);
    this.#rest();
    if ('answer' in message) {
      waiting?.resolve(message.answer as never);
      return;
    }
    const { code, message: text, mend } = message.failure;
    waiting?.reject(
      new LockstepError(code as `LS_${string}`, text, mend === undefined ? {} : { mend }),
    );
  }

  /** An engine at rest does not keep the process alive. */
  #rest(): void {
    if (this.#waiting.size === 0) this.#worker.unref();
  }

  #fail(error: LockstepError): void {
    this.#end ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#end);
    this.#waiting.clear();
  }
}

function crashed(cause: Error): LockstepError {
  return new LockstepError(
    'LS_ENGINE_CRASHED',
    `expected the engine's worker to go on, got its end: ${cause.message}`,
    { mend: 'Open the engine again; sessions start anew.', cause },
  );
}
