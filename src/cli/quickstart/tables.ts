// The quickstart's two tables, for people.

/** Perplexities of one length, before and after segmented training. */
export interface QuickstartPerplexity {
  full: number;
  noSinks: number;
  segmentedBefore: number;
  segmentedAfter: number;
}

function table(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  return rows
    .map((row) => row.map((cell, column) => cell.padStart(widths[column] ?? 0)).join('   '))
    .join('\n');
}

export function perplexityTable(perplexity: Record<string, QuickstartPerplexity>): string {
  const head = ['tokens', 'full attention', 'segmented, A = 0', 'segmented', 'segmented, trained'];
  const body = Object.entries(perplexity).map(([length, row]) => [
    length,
    ...[row.full, row.noSinks, row.segmentedBefore, row.segmentedAfter].map((x) => x.toFixed(2)),
  ]);
  return `Perplexity on held-out Paradise Lost\n${table([head, ...body])}`;
}

export function verifyTable(rows: Record<string, unknown>[]): string {
  const columns = [
    'engine',
    'tokens',
    'boundaryMismatches',
    'retrievalMismatches',
    'greedyMismatches',
    'maxAbsDlogp',
  ];
  const head = ['engine', 'tokens', 'boundaries', 'retrieval', 'greedy', 'max |dlogp|'];
  const cell = (value: unknown): string =>
    typeof value === 'number' && !Number.isInteger(value) ? value.toExponential(2) : `${value}`;
  return `Differences to the training forward\n${table([
    head,
    ...rows.map((row) => columns.map((column) => cell(row[column]))),
  ])}`;
}
