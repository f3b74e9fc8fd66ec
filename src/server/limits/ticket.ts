// Who a request is from, as the queue sees it.
import type { Response } from 'express';
import { callerOf } from '../keys/caller.ts';
import type { Background, Ticket } from './admission-queue.ts';
import type { Timeouts } from './deadline.ts';

/** Mark the request as one of a batch: it runs on idle capacity. */
export function setBackground(response: Response, background: Background): void {
  response.locals['background'] = background;
}

export function backgroundOf(response: Response): Background | undefined {
  return response.locals['background'] as Background | undefined;
}

/** How long the request may take: for one in the background its batch's window is the only limit of time. */
export function timeoutsOf(response: Response, timeouts: Timeouts): Timeouts {
  return backgroundOf(response) === undefined ? timeouts : { queueMs: null, requestMs: null };
}

export function ticketOf(response: Response): Ticket {
  const background = backgroundOf(response);
  const caller = callerOf(response);
  // Without a key of their own, or with the one that everyone has, callers are many under one name: no
  // limit of slots fits them.
  const name = caller?.name ?? 'anonymous';
  if (background !== undefined) return { caller: name, background };
  if (caller?.id === undefined) return { caller: name, most: Infinity };
  return { caller: caller.name, weight: caller.limits.weight ?? 1 };
}
