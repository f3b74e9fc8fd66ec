// Which pool rows the next segment sees (SEMANTICS.md 4): the recipes `anchors` and `topk`
// (`blocks` has a file of its own).
import type { Recipe } from '../contract/schema.ts';
import { meanRows, type Reals } from './means.ts';
import { type KeyChunk, type Products, type Scored, scoresOf, topKeys } from './scores.ts';

/** How many of a segment's last queries the `anchors` recipe looks back on. */
export const recentQueries = 64;
/** How many of a segment's last queries a recipe averages over query heads and keeps. */
export function recentOf(recipe: Recipe): number {
  return recipe === 'anchors' ? recentQueries : 1;
}

const window = 8;
const stride = 4;
const tail = 4;
const keysPerQuery = 16;
const before = 3;
const after = 4;
const span = before + 1 + after;

/** Sizes of `queries` [heads, queries, dim] and `keys` [heads, keys, dim]. */
export interface SelectShape {
  heads: number;
  queries: number;
  keys: number;
  dim: number;
}

/**
 * Pool positions retrieved per head, ascending, min(size, keys) of them (SEMANTICS.md 4).
 *
 * @param queries group means of the segment's last min(64, length) raw queries, in order
 * @param keys the pool's raw keys
 * @throws LS_RETRIEVAL_NONFINITE when a score is NaN or infinite
 */
export function select(
  queries: Reals,
  keys: Reals,
  shape: SelectShape,
  size: number,
  recipe: Recipe,
): Int32Array[] {
  const { heads, queries: count, keys: length, dim } = shape;
  return Array.from({ length: heads }, (_, head) => {
    const own = queries.subarray(head * count * dim, (head + 1) * count * dim);
    const data = keys.subarray(head * length * dim, (head + 1) * length * dim);
    return selectHead(own, [{ data, rows: length }], dim, size, recipe);
  });
}

/**
 * `select` for one head whose keys lie in chunks [rows, dim], in order.
 *
 * @param products of `queryVectors` and each chunk, for the recipe `anchors`: a quicker way to the same
 */
export function selectHead(
  queries: Reals,
  chunks: readonly KeyChunk[],
  dim: number,
  size: number,
  recipe: Recipe,
  products?: readonly Products[],
): Int32Array {
  const length = chunks.reduce((sum, chunk) => sum + chunk.rows, 0);
  if (length <= size) return Int32Array.from({ length }, (_, position) => position);
  if (size === 0) return new Int32Array(0);
  if (recipe === 'topk') {
    const scores = scoresOf(queries.subarray(queries.length - dim), chunks, dim);
    return topPositions(scores, size);
  }
  const few = Math.min(keysPerQuery, length);
  const candidates = topKeys(queryVectors(queries, dim), chunks, dim, few, products);
  return expand(anchorsOf(candidates, Math.floor(size / span)), length, size);
}

/** Means over full windows of 8 at stride 4 (fewer than 8: one mean of all), then of the last 4. */
export function queryVectors(queries: Reals, dim: number): Reals[] {
  const count = queries.length / dim;
  const vectors: Reals[] = [];
  if (count < window) vectors.push(meanRows(queries, dim, 0, count));
  for (let first = 0; first + window <= count; first += stride) {
    vectors.push(meanRows(queries, dim, first, window));
  }
  if (count >= tail) vectors.push(meanRows(queries, dim, count - tail, tail));
  return vectors;
}

/** The best distinct keys of a candidate list; a key selected more than once keeps its best score. */
function anchorsOf(candidates: readonly Scored[], count: number): number[] {
  const best = new Map<number, number>();
  for (const { position, score } of candidates) {
    const known = best.get(position);
    if (known === undefined || score > known) best.set(position, score);
  }
  return [...best]
    .sort(([p, a], [q, b]) => b - a || p - q)
    .slice(0, count)
    .map(([position]) => position);
}

/** Neighbourhoods of the anchors, filled up with the earliest positions not yet selected; ascending. */
function expand(anchors: readonly number[], length: number, size: number): Int32Array {
  const selected = new Set<number>();
  for (const anchor of anchors) {
    for (let near = anchor - before; near <= anchor + after; near++) {
      selected.add(Math.min(length - 1, Math.max(0, near)));
    }
  }
  for (let position = 0; selected.size < size; position++) selected.add(position);
  return Int32Array.from(selected).sort();
}

/** Positions of the `size` highest scores, equal ones to the lower position; ascending. */
function topPositions(scores: Reals, size: number): Int32Array {
  const threshold = scores.slice().sort()[scores.length - size] as number;
  let ties = size;
  for (const score of scores) if (score > threshold) ties--;
  const out = new Int32Array(size);
  let filled = 0;
  for (let position = 0; position < scores.length; position++) {
    const score = scores[position] as number;
    if (score > threshold || (score === threshold && ties-- > 0)) out[filled++] = position;
  }
  return out;
}
