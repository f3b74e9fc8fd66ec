// How the planner's thread and the policy's thread talk: shared cells, and a port for texts.
import type { MessagePort } from 'node:worker_threads';

/** What the policy's thread is started with. */
export interface HostData {
  readonly policySource: string;
  /** JSON for `load`. */
  readonly tables: string;
  readonly limits: string;
  /** Time to evaluate policy.js in, milliseconds. */
  readonly milliseconds: number;
  readonly control: SharedArrayBuffer;
  /** Tokens in, cuts out (Abi.exchange). */
  readonly cells: SharedArrayBuffer;
  /** Handle, index, token of the token at work. */
  readonly progress: SharedArrayBuffer;
  readonly port: MessagePort;
}

/** Cells of `control`. */
export const TURN = 0;
export const OPERATION = 1;
export const ARGUMENT = 2;
export const CONTROL_CELLS = 3;

/** Values of TURN. */
export const CALLER = 0;
export const POLICY = 1;

/** Values of OPERATION. Those with a text argument find it on the port. */
export const EXCHANGE = 0;
export const OPEN = 1;
export const SNAPSHOT = 2;
export const RESTORE = 3;
export const FREE = 4;
export const DESCRIBE = 5;

/** ARGUMENT after an exchange that failed; the error is on the port. */
export const FAILED = -1;

/**
 * Sleep until `control[TURN]` is no longer `whose`; false: it still is after `milliseconds`.
 *
 * Being woken proves nothing: a side that was stopped between its store and its notify wakes the other
 * in the middle of a later turn. The other would read what is not written yet, or do its work twice.
 */
export function awaitTurn(control: Int32Array, whose: number, milliseconds?: number): boolean {
  while (Atomics.load(control, TURN) === whose) {
    if (Atomics.wait(control, TURN, whose, milliseconds) === 'timed-out') return false;
  }
  return true;
}
