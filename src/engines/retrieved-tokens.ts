// What a boundary retrieved, over all heads: which tokens, and how many (layer, head) pairs took each.
import type { Retrieved } from './engine.ts';

/** One boundary's retrieval, summed over the long heads of all retrieving layers. */
export interface RetrievedTokens {
  /** The boundary: tokens of the sequence before it. */
  at: number;
  /** (layer, head) pairs that retrieve. */
  heads: number;
  /** Positions in the sequence of the tokens that any of them took, ascending. */
  positions: Int32Array;
  /** How many pairs took each of `positions`. */
  counts: Int32Array;
}

/** A run of neighbouring tokens that were retrieved. */
export interface RetrievedSpan {
  /** Half-open range of token positions. */
  tokens: [number, number];
  /** Mean share of the pairs that took its tokens, above 0, to 1. */
  weight: number;
}

/**
 * Sum up what the heads retrieved. It looks at what `step` gave and changes nothing.
 *
 * @param sinks A: the pool's first row is token A
 */
export function retrievedTokens(
  { at, retrieved }: { at: number; retrieved: readonly Retrieved[] },
  sinks: number,
): RetrievedTokens {
  const counts = new Int32Array(at);
  let heads = 0;
  for (const { positions } of retrieved) {
    for (const rows of positions) {
      heads += 1;
      for (const row of rows) counts[row + sinks] = (counts[row + sinks] as number) + 1;
    }
  }
  const positions = Int32Array.from(counts.keys()).filter((i) => (counts[i] as number) > 0);
  return { at, heads, positions, counts: positions.map((i) => counts[i] as number) };
}

/**
 * Set aside what `anchors` fills up with: when anchors overlap, the earliest rows make up for it, and they
 * stand at a head's beginning without a gap. An anchor among them cannot be told from them.
 *
 * @returns the rows that were chosen, and how many of the pool's first rows some head was filled up with
 */
export function withoutFilling(retrieved: readonly Retrieved[]): {
  chosen: Retrieved[];
  filled: number;
} {
  let filled = 0;
  const chosen = retrieved.map(({ layer, positions }) => ({
    layer,
    positions: positions.map((rows) => {
      const gap = rows.findIndex((row, i) => row !== i);
      const run = gap === -1 ? rows.length : gap;
      filled = Math.max(filled, run);
      return rows.subarray(run);
    }),
  }));
  return { chosen, filled };
}

/** A neighbour joins a span when at least this share of its strongest token's pairs took it. */
const JOINS = 0.75;

/**
 * Neighbouring tokens as spans, the strongest first, equal ones in order of position. Every retrieved token
 * is in exactly one span.
 */
export function retrievedSpans({ heads, positions, counts }: RetrievedTokens): RetrievedSpan[] {
  const order = Array.from(positions.keys()).sort(
    (a, b) => (counts[b] as number) - (counts[a] as number) || a - b,
  );
  const free = new Uint8Array(positions.length).fill(1);
  const joins = (from: number, to: number, peak: number): boolean =>
    free[to] === 1 &&
    Math.abs((positions[to] as number) - (positions[from] as number)) === 1 &&
    (counts[to] as number) >= JOINS * peak;
  const spans: RetrievedSpan[] = [];
  for (const top of order) {
    if (free[top] === 0) continue;
    const peak = counts[top] as number;
    let first = top;
    let last = top;
    while (joins(first, first - 1, peak)) first -= 1;
    while (joins(last, last + 1, peak)) last += 1;
    free.fill(0, first, last + 1);
    const sum = counts.subarray(first, last + 1).reduce((a, b) => a + b, 0);
    const from = positions[first] as number;
    const to = (positions[last] as number) + 1;
    spans.push({ tokens: [from, to], weight: sum / ((to - from) * heads) });
  }
  return spans.sort((a, b) => b.weight - a.weight || a.tokens[0] - b.tokens[0]);
}
