// One interface for everything that can run a segment.
import type { Contract } from '../contract/schema.ts';
import type { LockstepError } from '../errors.ts';
import type { Retrieved, SessionMemory } from '../state/sequence.ts';

export type { Retrieved, SessionMemory };

/** Which logit rows a step returns: none, the last token's, or one per token. */
export type Rows = 'none' | 'last' | 'all';

export interface StepOptions {
  /** Which logits to return. */
  rows: Rows;
  /** The policy cut after the last of these tokens: close the segment (carry, pool, retrieval). */
  close: boolean;
}

export interface StepResult {
  /** [rows, vocabulary], row-major float32. Empty for `rows: 'none'`. */
  logits: Float32Array;
  /** Number of rows in `logits`. */
  rows: number;
  /** Set when the step closed a segment: its end e_i and what the next segment will see. */
  boundary: { at: number; retrieved: Retrieved[] } | null;
}

export interface EngineSession {
  readonly id: string;
  /**
   * Run tokens that lie within one segment: [position, position + tokens.length).
   * Calls are serialised per session. A failed step leaves the session unusable; close it.
   */
  step(tokens: ArrayLike<number>, options: StepOptions): Promise<StepResult>;
  /**
   * Replace what the last boundary retrieved (verification: go on with the trainer's positions).
   * Only allowed before the first step of the next segment.
   */
  replaceRetrieved(retrieved: Retrieved[]): Promise<void>;
  memory(): Promise<SessionMemory>;
  /** A new session with a copy of this one's state; both continue independently. */
  fork(): Promise<EngineSession>;
  /** A copy of the current state. Without this method, prompts are not cached. */
  snapshot?(): Promise<StateSnapshot>;
  /** Free everything. Idempotent. */
  close(): Promise<void>;
}

/** A copy of a session's state that the engine holds; it is no session. */
export interface StateSnapshot {
  /** A new session that starts from the copied state. */
  open(): Promise<EngineSession>;
  /** Free it. Idempotent. */
  drop(): Promise<void>;
}

export interface EngineInfo {
  /** `onnx`, `torch`, `vllm`. */
  name: string;
  /** onnx: `fp32`, `int8`, `int4`; torch, vllm: torch's dtype (`float32`, `bfloat16`, ...). */
  precision: string;
  vocabulary: number;
  layers: number;
  kvHeads: number;
  queryHeads: number;
  headDim: number;
}

export interface Engine {
  readonly info: EngineInfo;
  readonly contract: Contract;
  /** A new, empty sequence. Rejects with LS_ENGINE_SESSIONS when `maxSessions` are open. */
  open(): Promise<EngineSession>;
  /** Sessions open now. */
  readonly sessions: number;
  /** Bytes of all snapshots; what several of them share counts once. */
  readonly snapshotBytes?: number;
  /** Settles with the reason when the engine has ended by itself, at rest too: nothing runs on it any more. */
  readonly lost?: Promise<LockstepError>;
  close(): Promise<void>;
}
