// Who sent a request: the name that logs, metrics, limits and the queue know a client by.
import type { Response } from 'express';

export interface Caller {
  /** Name of the client's key; `anonymous` where the server asks for none, `key` for `--api-key`. */
  readonly name: string;
}

/** Everybody, where the server asks for no key. */
export const ANONYMOUS: Caller = { name: 'anonymous' };

/** Whoever holds the one key of `--api-key`. */
export const KEYHOLDER: Caller = { name: 'key' };

/** Names that no key of a keys file may have, because they mean something else. */
export const RESERVED_NAMES: readonly string[] = [ANONYMOUS.name, KEYHOLDER.name];

/** Write down who sent the request. */
export function setCaller(response: Response, caller: Caller): void {
  response.locals['caller'] = caller;
}

/** Who sent the request; null before it was asked, and where the key was refused. */
export function callerOf(response: Response): Caller | null {
  return (response.locals['caller'] as Caller | undefined) ?? null;
}
