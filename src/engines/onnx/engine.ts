// The onnx engine: step graphs in onnxruntime, state managers in TypeScript, no Python in the process.
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { type Contract, readContract } from '../../contract/index.ts';
import { LockstepError } from '../../errors.ts';
import { layoutOf } from '../../state/index.ts';
import type {
  Engine,
  EngineInfo,
  EngineSession,
  Retrieved,
  SessionMemory,
  StepOptions,
  StepResult,
} from '../engine.ts';
import { Connection } from './connection.ts';
import { graphFolder, type Precision, readGraph } from './meta.ts';

export interface OnnxEngineOptions {
  /** Which exported graph to run (default fp32). */
  precision?: Precision;
  /** Threads of one step (default: as many as the machine has, at most 8). */
  threads?: number;
  /** Sessions open at once (default 64). */
  maxSessions?: number;
  /** Tokens one session may hold (default: no limit of the engine's own). */
  maxTokens?: number;
  /** Tokens of one run of the graph (default 128): how long other sessions wait for a prompt. */
  pieceTokens?: number;
}

/** A session that can also be copied. */
export interface OnnxSession extends EngineSession {
  /** A new session that stands where this one does; full pages of the pool are shared. */
  fork(): Promise<OnnxSession>;
}

export interface OnnxEngine extends Engine {
  open(): Promise<OnnxSession>;
}

/**
 * Open the exported graph of a checkpoint.
 *
 * @param dir checkpoint folder with `onnx/<precision>/` as `lockstep export` wrote it
 * @throws LockstepError LS_CONTRACT_*, LS_ENGINE_EXPORT, LS_ENGINE_DIGEST, LS_ENGINE_CORRUPT,
 *   LS_ENGINE_STALE, LS_ENGINE_LOAD
 */
export async function openOnnxEngine(
  dir: string,
  options: OnnxEngineOptions = {},
): Promise<OnnxEngine> {
  const precision = options.precision ?? 'fp32';
  const { contract } = await readContract(dir);
  const { model } = await readGraph(dir, precision, contract.digest);
  const connection = await Connection.start({
    graph: path.join(graphFolder(dir, precision), 'step.onnx'),
    layout: layoutOf(contract, model),
    rotation: { inverseFrequencies: model.invFreq, factor: model.attentionFactor },
    vocabulary: model.vocabulary,
    threads: options.threads ?? Math.min(8, availableParallelism()),
    pieceTokens: options.pieceTokens ?? 128,
    prepack: precision !== 'fp32',
  });
  const { vocabulary, layers, kvHeads, queryHeads, headDim } = model;
  const info = { name: 'onnx', precision, vocabulary, layers, kvHeads, queryHeads, headDim };
  return new WorkerEngine(info, contract, connection, options);
}

class WorkerEngine implements OnnxEngine {
  readonly info: EngineInfo;
  readonly contract: Contract;
  readonly connection: Connection;
  readonly maxTokens: number;
  readonly #maxSessions: number;
  readonly #open = new Set<number>();
  #numbers = 0;

  constructor(
    info: EngineInfo,
    contract: Contract,
    connection: Connection,
    options: OnnxEngineOptions,
  ) {
    this.info = info;
    this.contract = contract;
    this.connection = connection;
    this.maxTokens = options.maxTokens ?? Number.POSITIVE_INFINITY;
    this.#maxSessions = options.maxSessions ?? 64;
  }

  get sessions(): number {
    return this.#open.size;
  }

  open(): Promise<OnnxSession> {
    return this.begin(0, (session) => this.connection.call({ kind: 'open', session }));
  }

  /** Number a session, and make it in the worker. */
  async begin(length: number, make: (session: number) => Promise<null>): Promise<OnnxSession> {
    if (this.#open.size >= this.#maxSessions) {
      throw new LockstepError(
        'LS_ENGINE_SESSIONS',
        `expected at most ${this.#maxSessions} open sessions, got one more`,
        { mend: 'Close a session, or open the engine with a larger maxSessions.' },
      );
    }
    const session = ++this.#numbers;
    this.#open.add(session);
    try {
      await make(session);
    } catch (error) {
      this.#open.delete(session);
      throw error;
    }
    return new WorkerSession(session, this, length);
  }

  forget(session: number): void {
    this.#open.delete(session);
  }

  async close(): Promise<void> {
    this.#open.clear();
    await this.connection.close();
  }
}

class WorkerSession implements OnnxSession {
  readonly id: string;
  readonly #number: number;
  readonly #engine: WorkerEngine;
  #length: number;
  #closed: Promise<void> | undefined;
  #broken: LockstepError | undefined;

  constructor(number: number, engine: WorkerEngine, length: number) {
    this.id = `onnx-${number}`;
    this.#number = number;
    this.#engine = engine;
    this.#length = length;
  }

  async step(tokens: ArrayLike<number>, { rows, close }: StepOptions): Promise<StepResult> {
    this.#check();
    const ids = this.#checkedTokens(tokens);
    this.#length += ids.length;
    try {
      return await this.#engine.connection.call(
        { kind: 'step', session: this.#number, tokens: ids, rows, close },
        [ids.buffer as ArrayBuffer],
      );
    } catch (cause) {
      this.#broken ??= new LockstepError(
        'LS_ENGINE_SESSION',
        'expected a usable session, got one whose last step failed',
        { mend: 'Close it and open a new one.', cause },
      );
      throw cause;
    }
  }

  async replaceRetrieved(retrieved: Retrieved[]): Promise<void> {
    this.#check();
    const session = this.#number;
    await this.#engine.connection.call({ kind: 'replace', session, retrieved });
  }

  async memory(): Promise<SessionMemory> {
    this.#check();
    return this.#engine.connection.call({ kind: 'memory', session: this.#number });
  }

  async fork(): Promise<OnnxSession> {
    this.#check();
    return this.#engine.begin(this.#length, (session) =>
      this.#engine.connection.call({ kind: 'fork', session, from: this.#number }),
    );
  }

  close(): Promise<void> {
    this.#closed ??= this.#free();
    return this.#closed;
  }

  async #free(): Promise<void> {
    this.#engine.forget(this.#number);
    // Where the worker is gone, its sessions went with it.
    await this.#engine.connection.call({ kind: 'close', session: this.#number }).catch(() => {});
  }

  #check(): void {
    if (this.#broken !== undefined) throw this.#broken;
    if (this.#closed === undefined) return;
    throw new LockstepError('LS_ENGINE_SESSION', 'expected an open session, got a closed one');
  }

  #checkedTokens(tokens: ArrayLike<number>): Int32Array {
    const { maxTokens, info } = this.#engine;
    if (this.#length + tokens.length > maxTokens) {
      throw new LockstepError(
        'LS_ENGINE_LIMIT',
        `expected at most ${maxTokens} tokens in a session, got ${this.#length + tokens.length}`,
        { mend: 'Shorten the prompt, or open the engine with a larger maxTokens.' },
      );
    }
    const ids = new Int32Array(tokens.length);
    for (let at = 0; at < tokens.length; at++) {
      const id = tokens[at] as number;
      if (!Number.isInteger(id) || id < 0 || id >= info.vocabulary) {
        throw new LockstepError(
          'LS_ENGINE_TOKEN',
          `expected token ids in 0..${info.vocabulary - 1}, got ${id} at ${at}`,
          { mend: "Tokenize with the checkpoint's own tokenizer.json." },
        );
      }
      ids[at] = id;
    }
    return ids;
  }
}
