// A grid of recall as rows of lengths and columns of depths, and what its colours stand for.
import type { RecallFigures, RecallResult } from './run.ts';

/** One colour a tenth: from none recalled (dark red) to all (dark green); text on it is white. */
export const shades: readonly string[] = [
  '#8b1a1a', // 0
  '#9c3217',
  '#a84a16',
  '#a86214',
  '#9a7412',
  '#857f14',
  '#6b7f1a',
  '#4f7d24',
  '#367a2e',
  '#1e7537',
  '#0b6e3d', // 1
];

export function shadeOf(share: number): string {
  return shades[Math.round(10 * Math.min(1, Math.max(0, share)))] as string;
}

/** How a row is called. */
export function labelOf({
  name,
  weights,
  execution,
  engine,
}: RecallResult['rows'][number]): string {
  if (name.startsWith('beside-')) return `${name.slice('beside-'.length)}, segmented (${engine})`;
  const way = execution === 'full' ? 'full attention' : `segmented (${engine})`;
  return `${weights}, ${way}`;
}

/** Full attention first, then segmented before and after, then what stands beside. */
export function shownRows({ rows }: Pick<RecallResult, 'rows'>): RecallResult['rows'] {
  const rank = ({ name, execution, weights }: RecallResult['rows'][number]): number => {
    if (name.startsWith('beside-')) return 4;
    return (execution === 'full' ? 0 : 2) + (weights === 'trained' ? 1 : 0);
  };
  return [...rows].sort((a, b) => rank(a) - rank(b));
}

/** Shares by length (rows) and depth (columns); null where nothing was asked. */
export function gridOf(
  { cells }: RecallFigures,
  lengths: readonly number[],
  depths: readonly number[],
): (number | null)[][] {
  return lengths.map((length) =>
    depths.map(
      (depth) =>
        cells.find((cell) => cell.length === length && cell.depth === depth)?.recalled ?? null,
    ),
  );
}

/** The long heads that held facts most often. */
export function keenest(
  { heads }: RecallFigures,
  count: number,
): NonNullable<RecallFigures['heads']> {
  return [...(heads ?? [])]
    .sort((a, b) => b.held - a.held || a.layer - b.layer || a.head - b.head)
    .slice(0, count);
}

export function documentsText(count: number): string {
  return count === 1 ? '1 document' : `${count} documents`;
}
