// How long a request may wait for a slot, and how long it may take in all.
import type { Request, Response } from 'express';
import { longestMs } from '../../longest-times.ts';
import { HttpError, invalid } from '../errors.ts';

export interface Timeouts {
  /** Most milliseconds in the queue; null: no limit. */
  queueMs: number | null;
  /** Most milliseconds from the request's head to the end of its answer; null: no limit. */
  requestMs: number | null;
}

/** A header with which a client asks for a shorter limit than the server's, in seconds. */
const TIMEOUT_HEADER = 'x-request-timeout';

/** `performance.now()` of the request's head. */
export function headOf(response: Response): number {
  return (response.locals['since'] as number | undefined) ?? performance.now();
}

/** The limits of one request. `clear` it when the request has ended. */
export class Deadline {
  /** Aborts with HttpError 504 `deadline_exceeded` when the whole takes too long. */
  readonly total: AbortSignal;
  readonly #abort = new AbortController();
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #queueMs: number | null;

  /**
   * @throws HttpError 400 for a header that is no number of seconds
   */
  constructor(request: Request, response: Response, { queueMs, requestMs }: Timeouts) {
    this.total = this.#abort.signal;
    this.#queueMs = queueMs;
    const ms = Math.min(requestMs ?? longestMs, requestedMs(request) ?? longestMs);
    if (ms >= longestMs) return;
    const seconds = ms / 1000;
    const error = new HttpError(
      504,
      `Expected the answer to end within ${seconds} s of the request; it is incomplete.`,
      { code: 'deadline_exceeded' },
    );
    const passed = performance.now() - headOf(response);
    this.#after(ms - passed, () => this.#abort.abort(error));
  }

  /** Aborts with HttpError 503 `queue_timeout` when a wait that begins now takes too long. */
  queue(): AbortSignal {
    const abort = new AbortController();
    const ms = this.#queueMs;
    if (ms !== null && ms < longestMs) {
      const error = new HttpError(503, `Expected a free slot within ${ms / 1000} s, got none.`, {
        code: 'queue_timeout',
        retryAfter: Math.max(1, Math.ceil(ms / 1000)),
      });
      this.#after(ms, () => abort.abort(error));
    }
    return abort.signal;
  }

  clear(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  #after(ms: number, act: () => void): void {
    const timer = setTimeout(act, Math.max(0, ms));
    timer.unref();
    this.#timers.add(timer);
  }
}

/** Milliseconds that the client's header asks for; null without one. */
function requestedMs(request: Request): number | null {
  const given = request.get(TIMEOUT_HEADER);
  if (given === undefined) return null;
  const seconds = Number(given);
  if (given.trim() !== '' && Number.isFinite(seconds) && seconds > 0) return seconds * 1000;
  const words = `\`${TIMEOUT_HEADER}\`: expected a header with a number of seconds above 0`;
  throw invalid(TIMEOUT_HEADER, `${words}, got another text.`);
}
