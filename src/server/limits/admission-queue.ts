// How many generations run at once, who waits, whose turn is next, and who is turned away.
import { busy, HttpError } from '../errors.ts';

/** Who asks for a slot. */
export interface Ticket {
  /** The name of their key. Slots are divided among keys. */
  caller: string;
  /** Slots that this caller gets for each slot of a caller of weight 1, while both wait (default 1). */
  weight?: number;
  /** Most slots that this caller may hold (default: as many as the queue allows to one caller). */
  most?: number;
  /** Called when no slot is free at once. */
  onWait?: () => void;
  /** It asks for idle capacity: a slot that no request wants, given back as soon as one does. */
  background?: Background;
}

/** Work in the background that holds a slot. */
export interface Background {
  /** A request waits for the slot: give it back now. */
  preempt(): void;
}

interface Waiter {
  ticket: Ticket;
  admit(): void;
  refuse(error: unknown): void;
}

/**
 * At most `slots` requests run and `depth` wait. All others get 429 with a `Retry-After`, estimated from
 * how long recent requests held their slot.
 *
 * A free slot goes to the waiting caller who holds the fewest for their weight; among equals they take
 * turns, as many as their weight says (stride scheduling), and one caller's requests stay in their
 * order. When the queue is full, a newcomer replaces the youngest request of the caller who
 * has most in it, if that is more than the newcomer has.
 *
 * Work in the background gets a slot only while one is free and nobody waits. It does not wait itself. When others
 * wait and no slot is free, the youngest of it is preempted, and its slot goes to a waiting request.
 */
export class AdmissionQueue {
  readonly slots: number;
  readonly depth: number;
  /** Most slots of one caller. */
  readonly share: number;
  readonly #what: string;
  #active = 0;
  #waiting = 0;
  readonly #held = new Map<string, number>();
  /** Waiters by caller, in the order in which the callers' turns come. */
  readonly #queues = new Map<string, Waiter[]>();
  /** Turns that a caller has had, in turns of weight 1; callers without an entry are at `#time`. */
  readonly #turns = new Map<string, number>();
  /** Turns of the caller that was last admitted from the queue, before that turn. */
  #time = 0;
  #closed = false;
  #refused = 0;
  /** Holders in the background, the oldest first, without those that were preempted. */
  readonly #background = new Set<Background>();
  /** Preempted holders that still hold a slot. */
  #preempted = 0;
  /** Called when a slot is free and nobody waits for it. */
  onIdle: () => void = () => {};
  /** Moving average of the seconds a slot is held. */
  #holdSeconds = 2;

  /** @param what is let in, for who is turned away */
  constructor(slots: number, depth: number, share = slots, what = 'generations') {
    this.#what = what;
    this.slots = slots;
    this.depth = depth;
    this.share = share;
  }

  get active(): number {
    return this.#active;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** How many were turned away because the queue was full. */
  get refused(): number {
    return this.#refused;
  }

  /** Whether work in the background would get a slot. */
  get idle(): boolean {
    return !this.#closed && this.#active < this.slots && this.#waiting === 0;
  }

  /** Slots that this caller holds, those in the background apart. */
  heldBy(caller: string): number {
    return this.#held.get(caller) ?? 0;
  }

  /** Seconds until a newcomer would get a slot, estimated. */
  get expectedWaitSeconds(): number {
    return ((this.#waiting + 1) / this.slots) * this.#holdSeconds;
  }

  /**
   * Wait for a slot. The returned function gives it back; call it exactly once (more is harmless).
   *
   * @throws HttpError 429 when the queue is full, 503 when the server is closing, 499 when `signal`
   *   aborts while waiting, or its reason where that is an HttpError; in the background 429 where none is idle
   */
  async acquire(
    signal: AbortSignal,
    ticket: Ticket = { caller: 'anonymous' },
  ): Promise<() => void> {
    if (this.#closed) throw closing();
    if (signal.aborted) throw left(signal);
    if (ticket.background !== undefined) return this.#takeIdle(ticket.background);
    if (this.#active < this.slots && this.#mayHold(ticket)) this.#take(ticket);
    else await this.#wait(signal, ticket);
    const since = performance.now();
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const seconds = (performance.now() - since) / 1000;
      this.#holdSeconds = 0.8 * this.#holdSeconds + 0.2 * seconds;
      this.#giveBack(ticket);
      // Straight to the next in line, so that a newcomer cannot overtake it.
      this.#fill();
    };
  }

  #takeIdle(holder: Background): () => void {
    if (!this.idle) throw busy('Expected an idle slot; all slots are busy.', 1, 'no_idle_place');
    this.#active += 1;
    this.#background.add(holder);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      if (!this.#background.delete(holder)) this.#preempted -= 1;
      this.#active -= 1;
      this.#fill();
    };
  }

  /** Preempt as many holders in the background as there are others who could use their slots. */
  #preemptBackground(): void {
    if (this.#background.size === 0) return;
    let wanted = 0;
    for (const queue of this.#queues.values()) {
      const [first] = queue;
      if (first === undefined) continue;
      const { caller, most = this.share } = first.ticket;
      wanted += Math.min(queue.length, Math.min(most, this.slots) - this.heldBy(caller));
    }
    const youngest = [...this.#background].reverse();
    for (const holder of youngest.slice(0, Math.max(0, wanted - this.#preempted))) {
      this.#background.delete(holder);
      this.#preempted += 1;
      holder.preempt();
    }
  }

  /** Turn away everyone who waits or comes. Holders keep their slots. */
  close(): void {
    this.#closed = true;
    const waiting = [...this.#queues.values()].flat();
    this.#queues.clear();
    this.#waiting = 0;
    for (const waiter of waiting) waiter.refuse(closing());
  }

  async #wait(signal: AbortSignal, ticket: Ticket): Promise<void> {
    // Slots that are held in the background are as good as free.
    const lent = this.#background.size + this.#preempted;
    if (this.#waiting >= this.depth + lent) this.#makeRoom(ticket);
    await new Promise<void>((resolve, reject) => {
      const leave = () => {
        this.#remove(waiter);
        reject(left(signal));
        if (this.idle) this.onIdle();
      };
      const waiter: Waiter = {
        ticket,
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
      const queue = this.#queues.get(ticket.caller);
      if (queue === undefined) this.#queues.set(ticket.caller, [waiter]);
      else queue.push(waiter);
      this.#waiting += 1;
      ticket.onWait?.();
      this.#preemptBackground();
    });
  }

  /** Take one out of a full queue. @throws HttpError 429 where the newcomer is who has to go */
  #makeRoom({ caller }: Ticket): void {
    let longest: Waiter[] = [];
    for (const queue of this.#queues.values()) if (queue.length > longest.length) longest = queue;
    const own = this.#queues.get(caller)?.length ?? 0;
    const full = busy(
      `The queue is full: ${this.depth} ${this.#what} already wait, and at most ${this.slots} run at once.`,
      this.expectedWaitSeconds,
    );
    this.#refused += 1;
    const youngest = longest.at(-1);
    if (youngest === undefined || longest.length <= own + 1) throw full;
    this.#remove(youngest);
    youngest.refuse(full);
  }

  #mayHold({ caller, most = this.share }: Ticket): boolean {
    return this.heldBy(caller) < Math.min(most, this.slots);
  }

  #take({ caller }: Ticket): void {
    this.#active += 1;
    this.#held.set(caller, this.heldBy(caller) + 1);
  }

  #giveBack({ caller }: Ticket): void {
    this.#active -= 1;
    const left = this.heldBy(caller) - 1;
    if (left > 0) this.#held.set(caller, left);
    else this.#held.delete(caller);
  }

  #fill(): void {
    while (this.#active < this.slots) {
      const next = this.#next();
      if (next === null) break;
      const { ticket } = next;
      this.#remove(next);
      // The caller's next turn comes after everyone else's.
      const rest = this.#queues.get(ticket.caller);
      if (rest !== undefined) {
        this.#queues.delete(ticket.caller);
        this.#queues.set(ticket.caller, rest);
      }
      this.#countTurn(ticket);
      this.#take(ticket);
      next.admit();
    }
    // A slot may have come to somebody who still leaves others waiting.
    this.#preemptBackground();
    if (this.idle) this.onIdle();
  }

  #turnsOf(caller: string): number {
    return Math.max(this.#time, this.#turns.get(caller) ?? 0);
  }

  #countTurn({ caller, weight = 1 }: Ticket): void {
    this.#time = this.#turnsOf(caller);
    this.#turns.set(caller, this.#time + 1 / weight);
    // Who is not ahead of the time has nothing to wait for.
    for (const [name, turns] of this.#turns) if (turns <= this.#time) this.#turns.delete(name);
  }

  #next(): Waiter | null {
    let best: { waiter: Waiter; load: number; turns: number } | null = null;
    for (const [waiter] of this.#queues.values()) {
      if (waiter === undefined || !this.#mayHold(waiter.ticket)) continue;
      const { caller, weight = 1 } = waiter.ticket;
      const load = this.heldBy(caller) / weight;
      const turns = this.#turnsOf(caller);
      if (best === null || load < best.load || (load === best.load && turns < best.turns)) {
        best = { waiter, load, turns };
      }
    }
    return best?.waiter ?? null;
  }

  #remove(waiter: Waiter): void {
    const { caller } = waiter.ticket;
    const queue = this.#queues.get(caller) ?? [];
    const at = queue.indexOf(waiter);
    if (at === -1) return;
    queue.splice(at, 1);
    this.#waiting -= 1;
    if (queue.length === 0) this.#queues.delete(caller);
  }
}

function left(signal: AbortSignal): HttpError {
  if (signal.reason instanceof HttpError) return signal.reason;
  return new HttpError(499, 'The client went away.', { code: 'client_closed_request' });
}

function closing(): HttpError {
  return new HttpError(503, 'The server is shutting down.', {
    type: 'server_error',
    code: 'shutting_down',
    retryAfter: 5,
  });
}
