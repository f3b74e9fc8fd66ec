// Runs a policy where it can harm nobody: a thread of its own, with limits, called synchronously.
import {
  MessageChannel,
  type MessagePort,
  receiveMessageOnPort,
  Worker,
} from 'node:worker_threads';
import { LockstepError } from '../errors.ts';
import { builtModule } from '../paths.ts';
import type { AbiError } from './abi.ts';
import { batches, type Part, unpack } from './host-batch.ts';
import * as protocol from './host-protocol.ts';
import type { PolicySource } from './source.ts';

export interface HostLimits {
  /** Time the policy may take over one token, milliseconds. Default 5000. */
  milliseconds?: number;
  /** Heap of the policy's thread, MiB. Default 128. */
  megabytes?: number;
}

/** A token list of one sequence. */
export interface Push {
  readonly handle: number;
  readonly tokens: ArrayLike<number>;
}

/** Tokens that cross in one call. */
const CELLS = 1 << 16;
/** How often a call that takes long is looked at, milliseconds. */
const LOOK = 100;
/** Starting a thread on a busy machine takes its time, milliseconds. */
const START = 60_000;
/** Growth of the process, during one token, that only a runaway policy causes, bytes. */
const RUNAWAY = 1 << 29;

/**
 * One policy in a worker thread; any number of sequences share it. Calls are synchronous: they block
 * the calling thread for as long as the policy computes (microseconds a token).
 *
 * A policy that loops or takes too much memory stops the host, and every later call says so; one that
 * throws ends the sequence it was at work on. The thread keeps no process alive.
 */
export class PolicyHost {
  readonly #name: string;
  readonly #limits: Required<HostLimits>;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #control = new Int32Array(new SharedArrayBuffer(4 * protocol.CONTROL_CELLS));
  readonly #cells = new Int32Array(new SharedArrayBuffer(4 * CELLS));
  readonly #progress = new Int32Array(new SharedArrayBuffer(12)).fill(-1);
  #stopped: LockstepError | undefined;

  /**
   * @throws LS_POLICY_LOAD, LS_POLICY_FORBIDDEN or LS_POLICY_LIMIT where the policy cannot be loaded
   */
  constructor(source: PolicySource, limits: HostLimits = {}) {
    const { contract, policySource } = source;
    this.#name = contract.policy.name;
    this.#limits = { milliseconds: 5000, megabytes: 128, ...limits };
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    const data: protocol.HostData = {
      policySource,
      tables: JSON.stringify(contract.tables),
      limits: JSON.stringify({ ...contract.segment, vocabulary: contract.tokenizer.size }),
      milliseconds: this.#limits.milliseconds,
      control: this.#control.buffer,
      cells: this.#cells.buffer,
      progress: this.#progress.buffer,
      port: port2,
    };
    this.#control[protocol.TURN] = protocol.POLICY;
    this.#worker = new Worker(builtModule('planner/host-worker.js'), {
      workerData: data,
      transferList: [port2],
      // Neither the loaders of the calling process nor its environment.
      execArgv: [],
      env: {},
      resourceLimits: {
        maxOldGenerationSizeMb: this.#limits.megabytes,
        maxYoungGenerationSizeMb: 16,
        stackSizeMb: 2,
      },
    });
    this.#worker.on('error', () => {});
    this.#worker.unref();
    this.#port.unref();
    this.#await(START);
    this.#text();
  }

  /** A new sequence. @throws LS_POLICY_* where the policy's `start` fails */
  open(): number {
    return Number(this.#call(protocol.OPEN));
  }

  /** JSON from which `restore` goes on exactly. @throws LS_POLICY_STATE where the state is no JSON */
  snapshot(handle: number): string {
    return this.#call(protocol.SNAPSHOT, handle);
  }

  /** A new sequence from a snapshot. */
  restore(snapshot: string): number {
    return Number(this.#call(protocol.RESTORE, 0, snapshot));
  }

  free(handle: number): void {
    if (this.#stopped === undefined) this.#turn(protocol.FREE, handle);
  }

  /** Name and parameters of the policy, as policy.js has them. */
  describe(): { name: string; params: unknown } {
    return JSON.parse(this.#call(protocol.DESCRIBE));
  }

  /**
   * Push tokens of many sequences in one call.
   *
   * @returns per push the cuts decided: numbers of tokens before each cut. After an error none of the
   *   sequences pushed can go on.
   * @throws LS_POLICY_*, LS_PLAN_TOKEN naming the policy, the token's index in its sequence and its id
   */
  push(pushes: readonly Push[]): number[][] {
    const cuts: number[][] = pushes.map(() => []);
    for (const parts of batches(pushes, CELLS)) this.#exchange(parts, cuts);
    return cuts;
  }

  /** Whether the host can run no more: closed, or stopped by a policy without end. */
  get stopped(): boolean {
    return this.#stopped !== undefined;
  }

  /** Stop the thread. Idempotent; sequences of this host can then go on no more. */
  close(): void {
    this.#stop(
      new LockstepError(
        'LS_PLAN_CLOSED',
        `expected an open planner, got a closed one (${this.#name})`,
        {
          mend: 'Close a planner after its last use.',
        },
      ),
    );
  }

  #exchange(parts: readonly Part[], cuts: number[][]): void {
    let length = 0;
    for (const { handle, tokens, from, to } of parts) {
      this.#cells[length++] = handle;
      this.#cells[length++] = to - from;
      for (let i = from; i < to; i++) {
        const token = tokens[i] as number;
        // What does not fit a cell becomes an id that the planner refuses.
        this.#cells[length++] = (token | 0) === token ? token : -1;
      }
    }
    this.#turn(protocol.EXCHANGE, length);
    if (this.#control[protocol.ARGUMENT] === protocol.FAILED) this.#text();
    unpack(this.#cells, parts, cuts);
  }

  #call(operation: number, argument = 0, text?: string): string {
    if (text !== undefined && this.#stopped === undefined) this.#port.postMessage(text);
    this.#turn(operation, argument);
    return this.#text();
  }

  #turn(operation: number, argument: number): void {
    if (this.#stopped !== undefined) throw this.#stopped;
    this.#control[protocol.OPERATION] = operation;
    this.#control[protocol.ARGUMENT] = argument;
    Atomics.store(this.#control, protocol.TURN, protocol.POLICY);
    Atomics.notify(this.#control, protocol.TURN);
    this.#await(this.#limits.milliseconds);
  }

  /** Wait for the answer for as long as tokens go by. */
  #await(milliseconds: number): void {
    const answered = (): boolean => protocol.awaitTurn(this.#control, protocol.POLICY, LOOK);
    if (answered()) return;
    let memory = process.memoryUsage.rss();
    let token = this.#progress.join();
    for (let since = performance.now(); !answered(); ) {
      const now = this.#progress.join();
      if (now !== token) {
        token = now;
        since = performance.now();
        memory = process.memoryUsage.rss();
      } else if (process.memoryUsage.rss() - memory > RUNAWAY) {
        throw this.#stop(this.#overLimit('it takes memory without end'));
      } else if (performance.now() - since > milliseconds) {
        const { megabytes } = this.#limits;
        const why = `it loops, or needs more than ${megabytes} MiB`;
        throw this.#stop(this.#overLimit(`no answer within ${milliseconds} ms: ${why}`));
      }
    }
  }

  #overLimit(message: string): LockstepError {
    return this.#error({
      code: 'LS_POLICY_LIMIT',
      message: `expected an answer, got none: ${message}`,
      index: this.#progress[1] as number,
      token: this.#progress[2] as number,
    });
  }

  #stop(error: LockstepError): LockstepError {
    if (this.#stopped === undefined) {
      this.#stopped = error;
      this.#port.close();
      void this.#worker.terminate();
    }
    return error;
  }

  /** The text that the policy's thread has sent. */
  #text(): string {
    const { message } = receiveMessageOnPort(this.#port) as { message: string };
    if (!message.startsWith('{"error":')) return message;
    const { error } = JSON.parse(message) as { error: AbiError };
    throw this.#error(error);
  }

  #error({ code, message, index, token }: AbiError): LockstepError {
    const at = index < 0 ? '' : ` at token ${index} (id ${token})`;
    return new LockstepError(code as `LS_${string}`, `policy ${this.#name}${at}: ${message}`, {
      mend: mends[code] ?? 'Correct the policy, and make the contract again.',
    });
  }
}

const mends: Readonly<Record<string, string>> = {
  LS_PLAN_TOKEN: "Give token ids of the contract's own tokenizer.",
  LS_PLAN_CLOSED: 'Open another sequence, or restore one from a snapshot.',
  LS_POLICY_FORBIDDEN:
    'A policy depends on token ids and its tables alone; compute the rest in prepare.',
  LS_POLICY_RESULT: 'Return true to ask for a cut after the token, false otherwise.',
  LS_POLICY_STATE: 'Keep numbers, strings, booleans, null, lists and plain objects in the state.',
};
