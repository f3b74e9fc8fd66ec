// Scores of query vectors against pool keys: float32 products, summed in float64 in order of the
// dimension, rounded to float32 (SEMANTICS.md 4); float64 rows stay float64 throughout.
import { LockstepError } from '../errors.ts';
import type { Reals } from './means.ts';

/** Keys [rows, dim] that lie together; `data` may be longer. */
export interface KeyChunk {
  data: Reals;
  rows: number;
  /** The largest magnitude in each key, [rows]; with products it bounds their error. */
  largest?: Float32Array;
}

/**
 * Products of query vectors and a chunk's keys, [vectors, stride], stride >= rows: float32, summed in
 * any order, with or without fused multiply-add. Not scores, but near them.
 */
export type Products = Float32Array;

export interface Scored {
  position: number;
  score: number;
}

/** Query vectors scored together: as many independent sums keep the processor's adders busy. */
const lanes = 4;

/** The score of one query against every key. */
export function scoresOf(query: Reals, chunks: readonly KeyChunk[], dim: number): Reals {
  const length = chunks.reduce((sum, chunk) => sum + chunk.rows, 0);
  const out = query instanceof Float64Array ? new Float64Array(length) : new Float32Array(length);
  let first = 0;
  for (const { data, rows } of chunks) {
    const block = new Float64Array(rows * lanes);
    scoreBlock([query, query, query, query], data, rows, dim, block);
    for (let row = 0; row < rows; row++) out[first + row] = finite(block[row * lanes] as number);
    first += rows;
  }
  return out;
}

/**
 * The `few` best keys of every query vector, equal scores to the lower position.
 *
 * @param products of all vectors and each chunk: with them only keys that can be among the best are
 *   scored; what is found is the same
 */
export function topKeys(
  vectors: readonly Reals[],
  chunks: readonly KeyChunk[],
  dim: number,
  k: number,
  products?: readonly Products[],
): Scored[] {
  if (products !== undefined) {
    return vectors.flatMap((vector, index) => {
      const best = new TopK(k);
      let first = 0;
      for (const [at, chunk] of chunks.entries()) {
        const all = products[at] as Products;
        const stride = all.length / vectors.length;
        const own = all.subarray(index * stride, (index + 1) * stride);
        scoreNear(vector, chunk, dim, own, best, first);
        first += chunk.rows;
      }
      return best.found;
    });
  }
  const bests = vectors.map(() => new TopK(k));
  const largest = chunks.reduce((most, chunk) => Math.max(most, chunk.rows), 0);
  const block = new Float64Array(largest * lanes);
  for (let at = 0; at < vectors.length; at += lanes) {
    const group = Array.from(
      { length: lanes },
      (_, i) => vectors[at + i] ?? (vectors[at] as Reals),
    );
    const wanted = Math.min(lanes, vectors.length - at);
    let first = 0;
    for (const { data, rows } of chunks) {
      scoreBlock(group, data, rows, dim, block);
      for (let lane = 0; lane < wanted; lane++) {
        (bests[at + lane] as TopK).take(block, lane, rows, first);
      }
      first += rows;
    }
  }
  return bests.flatMap((best) => best.found);
}

/** Fills out[row * 4 + lane] with the score of `queries[lane]` and key `row`. */
function scoreBlock(
  queries: readonly Reals[],
  keys: Reals,
  rows: number,
  dim: number,
  out: Float64Array,
): void {
  if (keys instanceof Float32Array && queries.every((query) => query instanceof Float32Array)) {
    scoreFloat32(queries as Float32Array[], keys, rows, dim, out);
  } else {
    scoreFloat64(queries, keys, rows, dim, out);
  }
}

/**
 * Scores the keys of a chunk that can still be among the best.
 *
 * With u = 2^-24, a product sum of D terms errs by at most D u / (1 - D u) times the sum of
 * |q_d k_d|, the score by 2 u times the same, and that sum is at most |q|_1 |k|_inf. As in
 * python/lockstep/retrieval/scores.py, 2 (D + 4) u covers all of it.
 */
function scoreNear(
  query: Reals,
  { data, rows, largest }: KeyChunk,
  dim: number,
  products: Products,
  best: TopK,
  first: number,
): void {
  let norm = 0;
  for (let d = 0; d < dim; d++) norm += Math.abs(query[d] as number);
  const slack = 2 * (dim + 4) * 2 ** -24 * norm;
  const least = dim * 2 ** -126;
  for (let row = 0; row < rows; row++) {
    const product = products[row] as number;
    const bound = product + slack * (largest?.[row] as number) + least;
    // An overflow bounds nothing, and what is not a number fails the comparison.
    if (bound <= best.worst && Number.isFinite(product)) continue;
    let sum = 0;
    for (let d = 0, at = row * dim; d < dim; d++) {
      sum += Math.fround((data[at + d] as number) * (query[d] as number));
    }
    best.offer(first + row, Math.fround(sum));
  }
}

function scoreFloat32(
  queries: readonly Float32Array[],
  keys: Float32Array,
  rows: number,
  dim: number,
  out: Float64Array,
): void {
  const [q0, q1, q2, q3] = queries as [Float32Array, Float32Array, Float32Array, Float32Array];
  for (let row = 0, base = 0; row < rows; row++, base += dim) {
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    for (let d = 0; d < dim; d++) {
      const key = keys[base + d] as number;
      s0 += Math.fround(key * (q0[d] as number));
      s1 += Math.fround(key * (q1[d] as number));
      s2 += Math.fround(key * (q2[d] as number));
      s3 += Math.fround(key * (q3[d] as number));
    }
    const at = row * lanes;
    out[at] = Math.fround(s0);
    out[at + 1] = Math.fround(s1);
    out[at + 2] = Math.fround(s2);
    out[at + 3] = Math.fround(s3);
  }
}

function scoreFloat64(
  queries: readonly Reals[],
  keys: Reals,
  rows: number,
  dim: number,
  out: Float64Array,
): void {
  for (let row = 0; row < rows; row++) {
    for (let lane = 0; lane < lanes; lane++) {
      const query = queries[lane] as Reals;
      let sum = 0;
      for (let d = 0; d < dim; d++) sum += (keys[row * dim + d] as number) * (query[d] as number);
      out[row * lanes + lane] = sum;
    }
  }
}

/** The k best of scores that come in order of position. */
class TopK {
  readonly found: Scored[] = [];
  /** What a score must exceed to be among them. */
  worst = Number.NEGATIVE_INFINITY;
  readonly #k: number;

  constructor(k: number) {
    this.#k = k;
  }

  offer(position: number, score: number): void {
    // NaN fails the comparison and so comes to be refused.
    if (this.found.length >= this.#k && score <= this.worst) return;
    this.#insert({ position, score: finite(score) });
    if (this.found.length < this.#k) return;
    this.worst = (this.found[this.found.length - 1] as Scored).score;
  }

  /** Scores of positions first, first + 1, ... in one lane of a block. */
  take(block: Float64Array, lane: number, rows: number, first: number): void {
    for (let row = 0; row < rows; row++)
      this.offer(first + row, block[row * lanes + lane] as number);
  }

  /** After all of at least its score: an equal one that came before has the lower position. */
  #insert(scored: Scored): void {
    let at = this.found.length;
    while (at > 0 && (this.found[at - 1] as Scored).score < scored.score) at--;
    this.found.splice(at, 0, scored);
    if (this.found.length > this.#k) this.found.pop();
  }
}

function finite(score: number): number {
  if (Number.isFinite(score)) return score;
  throw new LockstepError(
    'LS_RETRIEVAL_NONFINITE',
    'expected finite queries and keys at a boundary, got NaN or infinity',
    { fix: 'The weights have diverged: use the last good checkpoint.' },
  );
}
