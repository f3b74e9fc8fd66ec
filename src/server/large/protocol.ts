// What the server and its worker thread for large requests say to each other.
import type { PlannerSource } from '../../planner/index.ts';
import type { HttpError } from '../errors.ts';
import type { Counts, Facts, SchemaName, ToolName } from './work.ts';

/** What a thread makes a model's tokenizer and planner of. */
export interface KitSetup {
  /** The checkpoint's folder, and the SHA-256 of the tokenizer.json that the server has read. */
  dir: string;
  tokenizer: string;
  source: PlannerSource;
}

export type Work =
  /** Read a body and check it: gives the object that its schema makes of it, or one field of that. */
  | { kind: 'body'; schema: SchemaName; body: Uint8Array; counts: Counts; only?: 'model' }
  /** Ids of a text; no more than are needed to see that they are more than `most`. */
  | { kind: 'encode'; kit: number; text: string; bos: boolean; most: number | null }
  /** The whole answer, as the bytes of its JSON. */
  | { kind: 'tool'; kit: number; tool: ToolName; body: Uint8Array; facts: Facts };

export interface Results {
  body: object;
  encode: Int32Array;
  tool: Uint8Array;
}

/** An `HttpError` without what a thread cannot send; `stack`: what the log is to tell. */
export interface Failure
  extends Pick<HttpError, 'status' | 'message' | 'type' | 'param' | 'code' | 'retryAfter'> {
  stack: string | undefined;
}

export type ToWorker =
  | ({ call: number } & Work)
  /** A kit that work may name from now on, or that none names any more. */
  | { kit: number; setup: KitSetup | null };
export type FromWorker = { call: number } & (
  | { result: Results[Work['kind']] }
  | { failure: Failure }
);
