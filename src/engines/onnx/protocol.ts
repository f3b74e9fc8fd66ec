// What the engine and its worker thread say to each other.
import type { Layout, Retrieved, Rotation, SessionMemory } from '../../state/index.ts';
import type { Rows } from '../engine.ts';

/** How a worker is started. */
export interface WorkerSetup {
  graph: string;
  layout: Layout;
  rotation: Rotation;
  vocabulary: number;
  threads: number;
  /** Tokens of one run of the graph; a longer step takes several, other sessions in between. */
  pieceTokens: number;
  /** Pack weights when the graph is loaded (quantized graphs need it, fp32 is slower with it). */
  prepack: boolean;
  /** See `flags`. */
  flags: Int32Array;
}

/**
 * Shared between both threads. Ending a thread inside onnxruntime aborts the whole process (an exception
 * in native code). So to end the worker, ask it to stop and wait until it runs nothing.
 */
export const flags = { running: 0, stopping: 1 } as const;

export type Request =
  | { kind: 'open'; session: number }
  | { kind: 'fork'; session: number; from: number }
  | { kind: 'snapshot'; session: number; snapshot: number }
  | { kind: 'resume'; session: number; snapshot: number }
  | { kind: 'drop'; session: 0; snapshot: number }
  | { kind: 'step'; session: number; tokens: Int32Array; rows: Rows; close: boolean }
  | { kind: 'replace'; session: number; retrieved: Retrieved[] }
  | { kind: 'memory'; session: number }
  | { kind: 'close'; session: number }
  | { kind: 'stop'; session: 0 };

export interface Stepped {
  logits: Float32Array;
  rows: number;
  boundary: { at: number; retrieved: Retrieved[] } | null;
}

/** What a request is answered with, by its kind. */
export interface Answers {
  open: null;
  fork: null;
  /** Bytes of all snapshots; so after `drop`. */
  snapshot: number;
  resume: null;
  drop: number;
  step: Stepped;
  replace: null;
  memory: SessionMemory;
  close: null;
  stop: null;
}

export interface Failure {
  code: string;
  message: string;
  fix?: string;
}

/** `call` numbers pair a request with its answer; the answer to number 0 says that the graph runs. */
export type ToWorker = { call: number } & Request;
export type FromWorker = { call: number } & (
  | { answer: Answers[Request['kind']] }
  | { failure: Failure }
);
