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
