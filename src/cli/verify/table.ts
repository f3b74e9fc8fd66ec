// What lockstep verify prints: a row for each engine, where it differs from the trainer, the verdict.
import type { Divergence, EngineReport, VerifyReport } from '../../engines/verify/index.ts';
import { type Paint, paint, type Screen } from '../shared/output.ts';

const heads = [
  'engine',
  'tokens',
  'cuts',
  'retrieval',
  'greedy',
  'max |Δ|',
  'mean |Δ|',
  'tolerance',
  '',
];

/** The table and the verdict, ending with a newline. */
export function verdict(report: VerifyReport, screen: Screen): string {
  const colors = paint(screen);
  const rows = report.engines.map((engine) => [
    `${engine.engine} ${engine.precision}`,
    `${engine.tokens}`,
    `${engine.boundaryMismatches}`,
    `${engine.retrievalMismatches}`,
    `${engine.greedyMismatches}`,
    scientific(engine.maxAbsDlogp),
    scientific(engine.meanAbsDlogp),
    scientific(engine.tolerance) + (engine.limited === 'mean' ? ' mean' : ''),
    engine.ok ? 'ok' : 'DIFFERS',
  ]);
  const widths = heads.map((head, i) =>
    Math.max(head.length, ...rows.map((row) => (row[i] as string).length)),
  );
  const line = (cells: string[]): string =>
    cells
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ')
      .trimEnd();
  const out = [colors.dim(line(heads))];
  report.engines.forEach((engine, i) => {
    const text = line(rows[i] as string[]);
    out.push(engine.ok ? text.replace(/ok$/, colors.green('ok')) : colors.red(text));
    out.push(...notes(engine, colors));
  });
  out.push('', summary(report, colors));
  return `${out.join('\n')}\n`;
}

function notes(engine: EngineReport, colors: Paint): string[] {
  const out: string[] = [];
  const explained = engine.nearTies;
  if (explained > 0) {
    const [s, differ] = explained === 1 ? ['', 'differs'] : ['s', 'differ'];
    out.push(
      engine.gapBound === null
        ? `  ${explained} retrieval${s} ${differ}: any gap passes at ${engine.precision}`
        : `  ${explained} retrieval near-tie${s} ${differ}: ` +
            `gap up to ${scientific(engine.largestGap)} of |q||k|, tolerance ${scientific(engine.gapBound)}`,
    );
  }
  if (engine.firstDivergence !== null) {
    out.push(`  ${colors.yellow('first difference')} ${place(engine.firstDivergence)}`);
  }
  if (engine.worst !== null && engine.worst !== engine.firstDivergence) {
    out.push(colors.dim(`  largest difference ${place(engine.worst)}`));
  }
  return out;
}

function place({ kind, position, text, trainer, engine }: Divergence): string {
  const show = (value: string | number): string =>
    typeof value === 'number' ? value.toFixed(6) : value;
  const what = kind === 'logp' ? `log p of ${JSON.stringify(text)}` : kind;
  return `at position ${position}: ${what}: trainer ${show(trainer)}, engine ${show(engine)}`;
}

function summary(report: VerifyReport, colors: Paint): string {
  if (report.ok) {
    return `${colors.green('consistent')}: serving computes what training computed`;
  }
  const bad = report.engines.filter((engine) => !engine.ok);
  const names = bad.map((engine) => `${engine.engine} ${engine.precision}`).join(', ');
  return `${colors.red('not consistent')}: ${names}. What to do: docs/verify.md#when-it-fails`;
}

function scientific(value: number): string {
  return value === 0 ? '0' : value.toExponential(1);
}
