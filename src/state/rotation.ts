// Rotary positions: angles in float64 from the float32 inverse frequencies, cos and sin rounded once
// to float32 (SEMANTICS.md 3). Positions are absolute: only differences count.

/** How a model rotates queries and keys. */
export interface Rotation {
  /** [D / 2], each a float32 number. */
  inverseFrequencies: readonly number[];
  /** Multiplies cos and sin (YaRN's attention factor; 1 elsewhere). */
  factor: number;
}

/** cos and sin of consecutive positions, [count, D / 2] each. */
export interface Angles {
  cos: Float32Array;
  sin: Float32Array;
}

/** cos and sin of the positions [start, start + count), times `factor`. */
export function anglesOf(
  { inverseFrequencies, factor }: Rotation,
  start: number,
  count: number,
): Angles {
  const half = inverseFrequencies.length;
  const cos = new Float32Array(count * half);
  const sin = new Float32Array(count * half);
  for (let row = 0, at = 0; row < count; row++) {
    for (let i = 0; i < half; i++, at++) {
      const angle = (start + row) * (inverseFrequencies[i] as number);
      cos[at] = Math.cos(angle) * factor;
      sin[at] = Math.sin(angle) * factor;
    }
  }
  return { cos, sin };
}

/**
 * Write rows [count, D] rotated by `angles`: row j by its own angle, or all by the first where
 * `shared`. Source and target may be the same rows.
 */
export function rotateRows(
  source: Float32Array,
  from: number,
  target: Float32Array,
  to: number,
  count: number,
  { cos, sin }: Angles,
  half: number,
  shared = false,
): void {
  for (let row = 0; row < count; row++) {
    const a = shared ? 0 : row * half;
    const s = from + row * 2 * half;
    const t = to + row * 2 * half;
    for (let i = 0; i < half; i++) {
      const x = source[s + i] as number;
      const y = source[s + half + i] as number;
      const c = cos[a + i] as number;
      const z = sin[a + i] as number;
      target[t + i] = x * c - y * z;
      target[t + half + i] = y * c + x * z;
    }
  }
}
