// Planning a text beside everything else that runs, and cuts that are known already.
import { setImmediate } from 'node:timers/promises';
import type { BoundarySource } from './sequence.ts';

/** Tokens that the policy is given at once: some milliseconds. */
const PLANNED_AT_ONCE = 2048;

/**
 * Push tokens piece by piece: the event loop has streams to serve meanwhile.
 *
 * @returns the cuts decided, as of `pushMany`
 * @throws LS_POLICY_*, LS_PLAN_TOKEN, and the signal's reason
 */
export async function pushInPieces(
  segmenter: Pick<BoundarySource, 'pushMany'>,
  tokens: Int32Array,
  signal?: AbortSignal,
): Promise<number[]> {
  const cuts: number[] = [];
  for (let at = 0; at < tokens.length; at += PLANNED_AT_ONCE) {
    if (at > 0) await setImmediate();
    signal?.throwIfAborted();
    for (const cut of segmenter.pushMany(tokens.subarray(at, at + PLANNED_AT_ONCE))) cuts.push(cut);
  }
  return cuts;
}

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
