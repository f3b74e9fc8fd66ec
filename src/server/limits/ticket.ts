// Who a request is from, as the queue sees it.
import type { Response } from 'express';
import { callerOf } from '../keys/caller.ts';
import type { Ticket } from './gate.ts';

export function ticketOf(response: Response): Ticket {
  const caller = callerOf(response);
  // Without a key of their own, or with the one that everyone has, callers are many under one name: no
  // limit of places fits them.
  if (caller?.id === undefined) return { caller: caller?.name ?? 'anonymous', most: Infinity };
  return { caller: caller.name, weight: caller.limits.weight ?? 1 };
}
