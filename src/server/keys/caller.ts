// Who sent a request: the name that logs, metrics, limits and the queue know a client by.
import type { Response } from 'express';
import type { KeyLimits } from './format.ts';

export interface Caller {
  /** Name of the client's key; `anonymous` where the server asks for none, `key` for `--api-key`. */
  readonly name: string;
  /** The key's id, where a keys file has it. */
  readonly id?: string;
  /** The key's own limits. */
  readonly limits: KeyLimits;
  /** Whether it may read what tells about all callers: `/metrics`, `/lockstep/engine`. */
  readonly operator: boolean;
}

/** Everybody, where the server asks for no key. */
export const ANONYMOUS: Caller = { name: 'anonymous', limits: {}, operator: true };

/** The holder of the one key of `--api-key`. */
export const KEYHOLDER: Caller = { name: 'key', limits: {}, operator: true };

/** Write down who sent the request. */
export function setCaller(response: Response, caller: Caller): void {
  response.locals['caller'] = caller;
}

/** Who sent the request; null before it was asked, and where the key was refused. */
export function callerOf(response: Response): Caller | null {
  return (response.locals['caller'] as Caller | undefined) ?? null;
}
