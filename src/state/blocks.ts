// The recipe `blocks` of SEMANTICS.md 4: whole blocks of neighbouring rows, by attention mass.
import { LockstepError } from '../errors.ts';
import { anglesOf, type Rotation, rotateRows } from './rotation.ts';
import type { KeyChunk } from './scores.ts';

/** Sizes of the recipe, in tokens. */
export interface BlockSizes {
  block: number;
  distance: number;
  window: number;
}

/**
 * What a run of neighbouring keys says of every query row: its largest logit, and by block the sum of
 * exp(logit - largest), [rows, blocks].
 */
export interface PartialMass {
  top: Float32Array;
  sums: Float32Array;
}

/** Raw queries [rows, dim] made so that q.k is attention's own logit at the distance. */
export function atDistance(
  queries: Float32Array,
  dim: number,
  distance: number,
  rotation: Rotation,
): Float32Array {
  const out = new Float32Array(queries.length);
  const angles = anglesOf(rotation, distance, 1);
  rotateRows(queries, 0, out, 0, queries.length / dim, angles, dim / 2, true);
  // The attention factor enters once more: for the key that stands at position 0.
  const scale = rotation.factor * dim ** -0.5;
  for (let i = 0; i < out.length; i++) out[i] = (out[i] as number) * scale;
  return out;
}

/** `PartialMass` of keys that lie together: whole blocks, or one shorter one. */
export function partialMass(
  queries: Float32Array,
  { data, rows }: KeyChunk,
  dim: number,
  block: number,
): PartialMass {
  const count = queries.length / dim;
  const blocks = Math.ceil(rows / block);
  const top = new Float32Array(count);
  const sums = new Float32Array(count * blocks);
  const logits = new Float64Array(rows);
  for (let q = 0; q < count; q++) {
    let largest = Number.NEGATIVE_INFINITY;
    for (let row = 0; row < rows; row++) {
      let sum = 0;
      for (let d = 0; d < dim; d++) {
        sum += (queries[q * dim + d] as number) * (data[row * dim + d] as number);
      }
      logits[row] = sum;
      if (!(sum <= largest)) largest = sum;
    }
    top[q] = largest;
    for (let row = 0; row < rows; row++) {
      const at = q * blocks + Math.floor(row / block);
      sums[at] = (sums[at] as number) + Math.exp((logits[row] as number) - largest);
    }
  }
  return { top, sums };
}

/**
 * Attention mass of every block, from its parts in order.
 *
 * @throws LS_RETRIEVAL_NONFINITE where queries or keys hold NaN or infinity
 */
export function blockMasses(parts: readonly PartialMass[]): Float64Array {
  const count = parts[0]?.top.length ?? 0;
  const widths = parts.map(({ sums }) => sums.length / count);
  const masses = new Float64Array(widths.reduce((sum, width) => sum + width, 0));
  for (let q = 0; q < count; q++) {
    const largest = parts.reduce((a, { top }) => Math.max(a, top[q] as number), -Infinity);
    const lift = parts.map(({ top }) => Math.exp((top[q] as number) - largest));
    let whole = 0;
    parts.forEach(({ sums }, i) => {
      const width = widths[i] as number;
      for (let b = 0; b < width; b++) {
        whole += (sums[q * width + b] as number) * (lift[i] as number);
      }
    });
    let first = 0;
    parts.forEach(({ sums }, i) => {
      const width = widths[i] as number;
      const share = (lift[i] as number) / whole;
      for (let b = 0; b < width; b++, first++) {
        masses[first] = (masses[first] as number) + (sums[q * width + b] as number) * share;
      }
    });
  }
  if (masses.every(Number.isFinite)) return masses;
  throw new LockstepError(
    'LS_RETRIEVAL_NONFINITE',
    'expected finite queries and keys at a boundary, got NaN or infinity',
    { fix: 'The weights have diverged: use the last good checkpoint.' },
  );
}

/** The rows of the floor(size / block) heaviest blocks, ties to the lower, of more than `size` rows. */
export function heaviest(
  masses: Float64Array,
  rows: number,
  size: number,
  block: number,
): Int32Array {
  const order = Array.from(masses.keys()).sort(
    (a, b) => (masses[b] as number) - (masses[a] as number) || a - b,
  );
  const selected = order.slice(0, Math.floor(size / block)).sort((a, b) => a - b);
  return Int32Array.from(
    selected.flatMap((b) =>
      Array.from({ length: Math.min(block, rows - b * block) }, (_, i) => b * block + i),
    ),
  );
}
