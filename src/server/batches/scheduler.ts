// Whose line runs next: while slots are idle, owners take turns, and of each the oldest batch goes first.
import type { Caller } from '../keys/caller.ts';
import type { Batch } from './batch.ts';
import { seconds } from './ids.ts';
import type { InProcessClient } from './in-process-client.ts';
import { type LineOrigin, type Outcome, runLine } from './run-line.ts';

/** How often expiry, pauses and the engine are looked at, in milliseconds. */
const TICK_MS = 500;

export interface SchedulerParts {
  /** Most lines at once. */
  slots(): number;
  /** Idle slots of models that can answer. */
  idle(): number;
  /** The caller that an owner is now; null: its key is not there any more, and its lines wait. */
  callerOf(owner: string): Caller | null;
  client: InProcessClient<LineOrigin>;
  onOutcome(outcome: Outcome): void;
}

export class Scheduler {
  readonly #parts: SchedulerParts;
  /** The oldest first. */
  readonly #batches = new Set<Batch>();
  readonly #lines = new Set<Promise<void>>();
  #lastOwner: string | null = null;
  #timer: NodeJS.Timeout | null = null;
  #soon: NodeJS.Immediate | null = null;
  #stopped = false;

  constructor(parts: SchedulerParts) {
    this.#parts = parts;
  }

  /** Lines that run. */
  get running(): number {
    return this.#lines.size;
  }

  /** Work on this one too. */
  add(batch: Batch): void {
    this.#batches.add(batch);
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS).unref();
    this.wake();
  }

  /** Look for lines to run. */
  wake(): void {
    if (this.#stopped || this.#soon !== null || this.#batches.size === 0) return;
    this.#soon = setImmediate(() => {
      this.#soon = null;
      this.#fill();
    });
  }

  /** Begin no more lines. */
  stop(): void {
    this.#stopped = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    if (this.#soon !== null) clearImmediate(this.#soon);
  }

  /** Let running lines end for so long; the others are put back. */
  async drain(ms: number): Promise<void> {
    this.stop();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
    });
    await Promise.race([Promise.all(this.#lines), late]);
    clearTimeout(timer);
    await Promise.all([...this.#batches].map((batch) => batch.close()));
    await Promise.all(this.#lines);
  }

  #tick(): void {
    const now = seconds();
    for (const batch of this.#batches) {
      if (batch.ended) this.#batches.delete(batch);
      else if (now >= batch.record.expires_at) batch.expire();
    }
    this.#fill();
    if (this.#batches.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }

  #fill(): void {
    const { slots, idle } = this.#parts;
    // A line has its slot a moment after it was begun.
    for (let begun = 0; this.#lines.size < slots() && begun < idle(); begun += 1) {
      const next = this.#stopped ? null : this.#next();
      if (next === null) return;
      const line = this.#run(...next).finally(() => {
        this.#lines.delete(line);
        this.wake();
      });
      this.#lines.add(line);
    }
  }

  async #run(batch: Batch, number: number, caller: Caller): Promise<void> {
    try {
      this.#parts.onOutcome(await runLine(batch, number, caller, this.#parts.client));
    } catch (error) {
      // Its end may have to wait for room on the disk; other lines do not.
      void batch.fail(error);
    }
  }

  #next(): [batch: Batch, number: number, caller: Caller] | null {
    const now = seconds();
    const byOwner = new Map<string, Batch[]>();
    for (const batch of this.#batches) {
      if (batch.paused !== null && batch.paused.until > now) continue;
      const own = byOwner.get(batch.owner);
      if (own === undefined) byOwner.set(batch.owner, [batch]);
      else own.push(batch);
    }
    const owners = [...byOwner.keys()].sort();
    const after = owners.findIndex((owner) => owner > (this.#lastOwner ?? ''));
    const turns = after === -1 ? owners : [...owners.slice(after), ...owners.slice(0, after)];
    for (const owner of turns) {
      const caller = this.#parts.callerOf(owner);
      if (caller === null) continue;
      for (const batch of byOwner.get(owner) ?? []) {
        const number = batch.take();
        if (number === null) continue;
        this.#lastOwner = owner;
        return [batch, number, caller];
      }
    }
    return null;
  }
}
