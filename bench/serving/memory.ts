// Does a server's memory grow while it works? Judged over the longest time that one process lived.

export interface MemoryRow {
  /** MiB, by server. */
  memory: Record<string, number | null>;
  /** Seconds since that process was started. */
  age: Record<string, number>;
}

export interface Growth {
  /** Seconds that the process lived. */
  seconds: number;
  /** Median MiB of the middle and of the last third of its rows; the first third is warm-up. */
  middle: number;
  last: number;
}

/** More than this is a problem: last third over middle third. */
export const MAX_GROWTH = 1.2;
/** A life of fewer rows says nothing. */
const MIN_ROWS = 9;

/** Of the longest life of a server; null where none was long enough. */
export function growthOf(rows: readonly MemoryRow[], server: string): Growth | null {
  const lives: MemoryRow[][] = [];
  let before = Number.POSITIVE_INFINITY;
  for (const row of rows) {
    const age = row.age[server] as number;
    if (age < before) lives.push([]);
    before = age;
    if (row.memory[server] != null) lives.at(-1)?.push(row);
  }
  const longest = lives.reduce((most, life) => (life.length > most.length ? life : most), []);
  if (longest.length < MIN_ROWS) return null;
  const third = Math.floor(longest.length / 3);
  const median = (part: MemoryRow[]): number => {
    const sorted = part.map(({ memory }) => memory[server] as number).sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] as number;
  };
  return {
    seconds: longest.at(-1)?.age[server] as number,
    middle: median(longest.slice(third, 2 * third)),
    last: median(longest.slice(2 * third)),
  };
}
