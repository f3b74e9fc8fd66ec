// How many generations run at once, how many may wait, and who is turned away.
import { busy, HttpError } from '../errors.ts';

interface Waiter {
  admit(): void;
  refuse(error: Error): void;
}

/**
 * First come, first served: `slots` holders, at most `depth` waiting, everyone else gets 429 with a
 * `Retry-After` estimated from how long holders have lately held their slot.
 */
export class Gate {
  readonly slots: number;
  readonly depth: number;
  #active = 0;
  #waiting: Waiter[] = [];
  #closed = false;
  /** Moving average of the seconds a slot is held. */
  #holdSeconds = 2;

  constructor(slots: number, depth: number) {
    this.slots = slots;
    this.depth = depth;
  }

  get active(): number {
    return this.#active;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Seconds until a newcomer would get a slot, estimated. */
  get patience(): number {
    return ((this.#waiting.length + 1) / this.slots) * this.#holdSeconds;
  }

  /**
   * Wait for a slot. The returned function gives it back; call it exactly once (more is harmless).
   *
   * @throws HttpError 429 when the queue is full, 503 when the server is closing, 499 when `signal`
   *   aborts while waiting.
   */
  async acquire(signal: AbortSignal): Promise<() => void> {
    if (this.#closed) throw closing();
    if (signal.aborted) throw gone();
    if (this.#active >= this.slots) {
      if (this.#waiting.length >= this.depth) {
        throw busy(
          `Expected at most ${this.slots} running and ${this.depth} waiting generations; all places are taken.`,
          this.patience,
        );
      }
      await new Promise<void>((resolve, reject) => {
        const leave = () => {
          this.#waiting = this.#waiting.filter((other) => other !== waiter);
          reject(gone());
        };
        const waiter: Waiter = {
          admit: () => {
            signal.removeEventListener('abort', leave);
            resolve();
          },
          refuse: (error) => {
            signal.removeEventListener('abort', leave);
            reject(error);
          },
        };
        signal.addEventListener('abort', leave, { once: true });
        this.#waiting.push(waiter);
      });
    } else {
      this.#active += 1;
    }
    const since = performance.now();
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const seconds = (performance.now() - since) / 1000;
      this.#holdSeconds = 0.8 * this.#holdSeconds + 0.2 * seconds;
      // The slot passes straight to the next in line, so a newcomer cannot overtake it.
      const next = this.#waiting.shift();
      if (next === undefined) this.#active -= 1;
      else next.admit();
    };
  }

  /** Turn away everyone who waits or comes. Holders keep their slots. */
  close(): void {
    this.#closed = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const waiter of waiting) waiter.refuse(closing());
  }
}

function gone(): HttpError {
  return new HttpError(499, 'The client went away.', { code: 'client_closed_request' });
}

function closing(): HttpError {
  return new HttpError(503, 'The server is shutting down.', {
    type: 'server_error',
    code: 'shutting_down',
    retryAfter: 5,
  });
}
