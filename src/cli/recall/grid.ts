// A grid of recall as rows of lengths and columns of depths, and what its colours stand for.
import { light } from '../drawing/tokens.ts';
import type { RecallFigures, RecallResult } from './run.ts';

/** One colour a tenth, from none recalled to all, the same in both schemes; text on it is white. */
export const shades: readonly string[] = Array.from({ length: 11 }, (_, i) => light(`share-${i}`));

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

/** Full attention first, then segmented before and after training, then checkpoints of --compare. */
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

/** The long heads that held needles most often. */
export function topHeads(
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
