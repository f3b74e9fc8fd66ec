// The shutdown of a server: health checks fail first, then new requests are refused, then running answers may finish.
import type { Server } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { longestMs } from '../longest-times.ts';

/** The slots of all models. */
export interface Slots {
  readonly active: number;
  readonly waiting: number;
  /** Turn away everyone who waits or comes. */
  refuse(): void;
}

export interface DrainTimes {
  /** How long it listens on, all as ever but `/health/ready`. */
  preDrainMs: number;
  /** How long running answers may then take to finish. */
  drainMs: number;
}

/** After the answers that were cut off: how long their last events may take to be read. */
const LAST_WORDS_MS = 5_000;

/**
 * Close a server, and log what became of its answers in one line. `/health/ready` says 503 before this is called.
 *
 * @param cut aborts what still runs when the time is over
 */
export async function drain(
  http: Server,
  slots: Slots,
  cut: AbortController,
  { preDrainMs, drainMs }: DrainTimes,
  log: Logger,
): Promise<void> {
  const since = performance.now();
  if (http.listening && preDrainMs > 0) await sleep(Math.min(preDrainMs, longestMs));
  const running = slots.active;
  const refused = slots.waiting;
  slots.refuse();
  const ended = new Promise<void>((resolve) => {
    if (http.listening) http.close(() => resolve());
    else resolve();
  });
  // A connection that falls idle after its last answer would keep the server open otherwise.
  const sweep = setInterval(() => http.closeIdleConnections(), 100);
  let lost = 0;
  const cutTimer = setTimeout(
    () => {
      lost = slots.active;
      cut.abort();
    },
    Math.min(drainMs, longestMs),
  );
  const force = setTimeout(
    () => http.closeAllConnections(),
    Math.min(drainMs + LAST_WORDS_MS, longestMs),
  );
  await ended;
  clearInterval(sweep);
  clearTimeout(cutTimer);
  clearTimeout(force);
  const ms = Math.round(performance.now() - since);
  const told = { ms, finished: running - lost, cut: lost, refused };
  if (lost > 0) log.error(told, 'shutdown');
  else log.info(told, 'shutdown');
}
