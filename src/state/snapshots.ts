// Snapshots of states, and what they cost: memory that several share counts once.
import type { SequenceState } from './sequence.ts';

export class StateSnapshots {
  readonly #states = new Map<number, SequenceState>();
  /** How many states hold each piece of memory. */
  readonly #holders = new Map<ArrayBufferLike, number>();
  /** Bytes of all of them. */
  bytes = 0;

  /** Store a copy of a state under a new number. */
  add(number: number, state: SequenceState): void {
    const copy = state.fork();
    this.#states.set(number, copy);
    for (const buffer of copy.buffers()) {
      const holders = this.#holders.get(buffer) ?? 0;
      this.#holders.set(buffer, holders + 1);
      if (holders === 0) this.bytes += buffer.byteLength;
    }
  }

  /** The state to continue from; undefined if there is none of that number. */
  fork(number: number): SequenceState | undefined {
    return this.#states.get(number)?.fork();
  }

  drop(number: number): void {
    const state = this.#states.get(number);
    if (state === undefined) return;
    this.#states.delete(number);
    for (const buffer of state.buffers()) {
      const holders = (this.#holders.get(buffer) as number) - 1;
      if (holders > 0) {
        this.#holders.set(buffer, holders);
        continue;
      }
      this.#holders.delete(buffer);
      this.bytes -= buffer.byteLength;
    }
  }
}
