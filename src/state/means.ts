// Means of rows: summed in float64 in order, rounded to float32 unless the rows are float64.

/** Rows of float32 numbers, or of float64 where a model computes in float64. */
export type Reals = Float32Array | Float64Array;

/** Mean of `count` rows [dim] of `rows`, from row `first` on, `step` rows apart. */
export function meanRows(rows: Reals, dim: number, first: number, count: number, step = 1): Reals {
  const sum = new Float64Array(dim);
  for (let row = 0; row < count; row++) {
    const base = (first + row * step) * dim;
    for (let d = 0; d < dim; d++) sum[d] = (sum[d] as number) + (rows[base + d] as number);
  }
  for (let d = 0; d < dim; d++) sum[d] = (sum[d] as number) / count;
  return rows instanceof Float64Array ? sum : Float32Array.from(sum);
}
