// The loss curve in a terminal: a few lines of braille dots with an axis.
import { type CurvePoint, smooth, smoothingWidth } from './scale.ts';

// Bit of each dot of a braille character, by column and row (Unicode block U+2800).
const DOTS = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
] as const;

/**
 * Draw the smoothed curve, oldest step left.
 *
 * @param width columns, the axis' labels included (at least 20)
 * @param height lines
 * @returns `height` lines; empty before the second step
 */
export function lossChart(points: readonly CurvePoint[], width: number, height: number): string[] {
  if (points.length < 2) return [];
  const means = smooth(
    points.map((point) => point.loss),
    smoothingWidth(points.length),
  );
  const columns = 2 * (Math.max(20, width) - 9);
  const rows = 4 * height;
  const low = means.reduce((a, b) => Math.min(a, b));
  const high = means.reduce((a, b) => Math.max(a, b));
  const span = high - low || 1;
  const cells = Array.from({ length: height }, () => new Array<number>(columns / 2).fill(0));
  for (let column = 0; column < columns; column++) {
    const value = means[Math.round((column / (columns - 1)) * (means.length - 1))] as number;
    const row = Math.round(((high - value) / span) * (rows - 1));
    const cell = cells[Math.floor(row / 4)] as number[];
    const at = Math.floor(column / 2);
    cell[at] = (cell[at] as number) | ((DOTS[column % 2] as readonly number[])[row % 4] as number);
  }
  return cells.map((cell, i) => {
    const label = i === 0 ? high.toFixed(2) : i === height - 1 ? low.toFixed(2) : '';
    const line = cell.map((bits) => String.fromCharCode(0x2800 + bits)).join('');
    return `${label.padStart(6)} ┤${line}`.trimEnd();
  });
}
