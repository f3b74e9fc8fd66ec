// Does a server's memory grow while it works? Rows of all its processes, by their age.

export interface MemoryRow {
  /** MiB, by server. */
  memory: Record<string, number | null>;
  /** Seconds since that process was started. */
  age: Record<string, number>;
}

export interface Growth {
  /** Seconds that the process lived that lived longest. */
  seconds: number;
  /** Processes that the rows are of. */
  processes: number;
  /** MiB of rows whose process was as old as the middle and the last third of that time. */
  middle: Spread;
  last: Spread;
}

export interface Spread {
  median: number;
  lowest: number;
}

/** More than this is a problem: the last third's median over the middle third's. */
export const MAX_GROWTH = 1.2;
/** Bodies of megabytes come and go, so one row says little: a third of fewer rows says nothing. */
const MIN_ROWS = 9;

/** The first third of the time is warm-up. Null where there are too few rows. */
export function growthOf(rows: readonly MemoryRow[], server: string): Growth | null {
  const seen: { age: number; mib: number }[] = [];
  let processes = 0;
  let before = Number.POSITIVE_INFINITY;
  for (const row of rows) {
    const age = row.age[server] as number;
    if (age < before) processes += 1;
    before = age;
    const mib = row.memory[server];
    if (mib != null) seen.push({ age, mib });
  }
  const seconds = seen.reduce((most, { age }) => Math.max(most, age), 0);
  const between = (from: number, to: number): number[] =>
    seen
      .filter(({ age }) => age >= from * seconds && age < to * seconds)
      .map(({ mib }) => mib)
      .sort((a, b) => a - b);
  const [middle, last] = [between(1 / 3, 2 / 3), between(2 / 3, Number.POSITIVE_INFINITY)];
  if (Math.min(middle.length, last.length) < MIN_ROWS) return null;
  return { seconds, processes, middle: spread(middle), last: spread(last) };
}

function spread(sorted: number[]): Spread {
  return {
    median: sorted[Math.floor(sorted.length / 2)] as number,
    lowest: sorted[0] as number,
  };
}
