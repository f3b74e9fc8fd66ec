// The onnx engine: step graphs in onnxruntime, state managers in TypeScript, no Python in the process.
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { readContract } from '../../checkpoint/index.ts';
import type { Contract } from '../../contract/index.ts';
import type { LockstepError } from '../../errors.ts';
import { layoutOf } from '../../state/index.ts';
import type {
  Engine,
  EngineInfo,
  EngineSession,
  Retrieved,
  SessionMemory,
  StateSnapshot,
  StepOptions,
  StepResult,
} from '../engine.ts';
import { type SessionLease, SessionRegistry } from '../session-registry.ts';
import { Connection } from './connection.ts';
import { graphFolder, readGraph } from './meta.ts';
import type { Precision } from './meta-schema.ts';

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
  /** A new session with a copy of this one's state; full pages of the pool are shared. */
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
  const { model } = await readGraph(dir, precision, contract);
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
  readonly #registry: SessionRegistry;
  #numbers = 0;
  snapshotBytes = 0;

  constructor(
    info: EngineInfo,
    contract: Contract,
    connection: Connection,
    options: OnnxEngineOptions,
  ) {
    this.info = info;
    this.contract = contract;
    this.connection = connection;
    this.#registry = new SessionRegistry(info.vocabulary, options);
  }

  get sessions(): number {
    return this.#registry.size;
  }

  get lost(): Promise<LockstepError> {
    return this.connection.lost;
  }

  open(): Promise<OnnxSession> {
    return this.begin(0, (session) => this.connection.call({ kind: 'open', session }));
  }

  /** Number a session, and make it in the worker. */
  begin(length: number, make: (session: number) => Promise<null>): Promise<OnnxSession> {
    return this.#registry.open(length, async (lease) => {
      const session = ++this.#numbers;
      await make(session);
      return new WorkerSession(session, this, lease);
    });
  }

  /** A copy of a session of this length. */
  async snapshot(session: number, length: number): Promise<StateSnapshot> {
    const snapshot = ++this.#numbers;
    this.snapshotBytes = await this.connection.call({ kind: 'snapshot', session, snapshot });
    let dropped: Promise<void> | undefined;
    const drop = async () => {
      // Where the worker is gone, its states went with it.
      const left = this.connection.call({ kind: 'drop', session: 0, snapshot }).catch(() => 0);
      this.snapshotBytes = await left;
    };
    return {
      open: () =>
        this.begin(length, (number) =>
          this.connection.call({ kind: 'resume', session: number, snapshot }),
        ),
      drop: () => {
        dropped ??= drop();
        return dropped;
      },
    };
  }

  async close(): Promise<void> {
    this.#registry.clear();
    this.snapshotBytes = 0;
    await this.connection.close();
  }
}

class WorkerSession implements OnnxSession {
  readonly id: string;
  readonly #number: number;
  readonly #engine: WorkerEngine;
  readonly #lease: SessionLease;
  #closed: Promise<void> | undefined;

  constructor(number: number, engine: WorkerEngine, lease: SessionLease) {
    this.id = `onnx-${number}`;
    this.#number = number;
    this.#engine = engine;
    this.#lease = lease;
  }

  step(tokens: ArrayLike<number>, { rows, close }: StepOptions): Promise<StepResult> {
    const session = this.#number;
    return this.#lease.step(tokens, (ids) =>
      this.#engine.connection.call({ kind: 'step', session, tokens: ids, rows, close }, [
        ids.buffer as ArrayBuffer,
      ]),
    );
  }

  async replaceRetrieved(retrieved: Retrieved[]): Promise<void> {
    this.#lease.check();
    const session = this.#number;
    await this.#engine.connection.call({ kind: 'replace', session, retrieved });
  }

  async memory(): Promise<SessionMemory> {
    this.#lease.check();
    return this.#engine.connection.call({ kind: 'memory', session: this.#number });
  }

  async fork(): Promise<OnnxSession> {
    this.#lease.check();
    return this.#engine.begin(this.#lease.length, (session) =>
      this.#engine.connection.call({ kind: 'fork', session, from: this.#number }),
    );
  }

  async snapshot(): Promise<StateSnapshot> {
    this.#lease.check();
    return this.#engine.snapshot(this.#number, this.#lease.length);
  }

  close(): Promise<void> {
    this.#closed ??= this.#free();
    return this.#closed;
  }

  async #free(): Promise<void> {
    this.#lease.release();
    // Where the worker is gone, its sessions went with it.
    await this.#engine.connection.call({ kind: 'close', session: this.#number }).catch(() => {});
  }
}
