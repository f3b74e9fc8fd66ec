// Scales shared by the loss plots: smoothing, round ticks, numbers for people.

/** One optimizer step: what a plot shows of it. */
export interface CurvePoint {
  /** Optimizer step, from 1. */
  step: number;
  /** Mean loss of the step in nats per token. */
  loss: number;
}

/** Mean of the last `width` values at each place (fewer at the start). */
export function smooth(values: readonly number[], width: number): number[] {
  const out: number[] = [];
  let total = 0;
  values.forEach((value, i) => {
    total += value - (i >= width ? (values[i - width] as number) : 0);
    out.push(total / Math.min(i + 1, width));
  });
  return out;
}

/** Steps averaged by the smooth line of a curve of `length` steps. */
export function smoothingWidth(length: number): number {
  return Math.max(1, Math.floor(length / 20));
}

/** Round numbers (1, 2 or 5 times a power of ten apart) from at or below `low` to at or above `high`. */
export function ticks(low: number, high: number, wanted: number): number[] {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(raw));
  const unit = raw / power;
  const gap = (unit <= 1 ? 1 : unit <= 2 ? 2 : unit <= 5 ? 5 : 10) * power;
  const first = Math.floor(low / gap + 1e-9);
  const last = Math.max(first + 1, Math.ceil(high / gap - 1e-9));
  // Through toPrecision, because 3 * 0.1 is no label.
  return Array.from({ length: last - first + 1 }, (_, i) =>
    Number(((first + i) * gap).toPrecision(12)),
  );
}

/** `1234567` -> `1.2M`. */
export function short(value: number): string {
  for (const [size, unit] of [
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    if (Math.abs(value) >= size) return `${Number((value / size).toPrecision(3))}${unit}`;
  }
  return String(Number(value.toPrecision(4)));
}

/** Seconds as `4:05` or `1:02:03`. */
export function clock(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  const two = (n: number): string => String(n).padStart(2, '0');
  const [h, m] = [Math.floor(s / 3600), Math.floor((s % 3600) / 60)];
  return h > 0 ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
}

/** Bytes as `1.2 GB` (powers of 1000). */
export function bytes(value: number): string {
  return value >= 1e9 ? `${(value / 1e9).toFixed(2)} GB` : `${Math.round(value / 1e6)} MB`;
}

/** At most `limit` points: of each bucket the lowest and the highest, so that spikes stay visible. */
export function downsample(points: readonly CurvePoint[], limit: number): CurvePoint[] {
  if (points.length <= limit) return [...points];
  const size = Math.ceil(points.length / (limit / 2));
  const out: CurvePoint[] = [];
  for (let at = 0; at < points.length; at += size) {
    const bucket = points.slice(at, at + size);
    const low = bucket.reduce((a, b) => (b.loss < a.loss ? b : a));
    const high = bucket.reduce((a, b) => (b.loss > a.loss ? b : a));
    out.push(...(low.step < high.step ? [low, high] : low === high ? [low] : [high, low]));
  }
  return out;
}
