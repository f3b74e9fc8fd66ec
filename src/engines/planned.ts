// Cuts that are known already, so that a text that was planned is not planned again.
import type { BoundarySource } from './sequence.ts';

/** Gives the cuts of a planned text as its tokens come; it cannot go beyond that text. */
export class PlannedCuts implements BoundarySource {
  readonly #cuts: readonly number[];
  #next = 0;
  #position = 0;

  /** @param cuts boundaries of the text, ascending: each the number of tokens before it */
  constructor(cuts: readonly number[]) {
    this.#cuts = cuts;
  }

  push(token: number): boolean {
    return this.pushMany([token]).length === 1;
  }

  pushMany(tokens: ArrayLike<number>): number[] {
    this.#position += tokens.length;
    const from = this.#next;
    while ((this.#cuts[this.#next] ?? Infinity) <= this.#position) this.#next += 1;
    return this.#cuts.slice(from, this.#next);
  }

  close(): void {}
}
