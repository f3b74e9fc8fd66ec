// What `lockstep eval` prints: one table a suite, references beside the checkpoint.

import { type Paint, paint, type Screen } from '../shared/output.ts';
import type { PplResult, PplRow } from './ppl.ts';
import type { ShownRow } from './rows.ts';
import type { TasksResult, TasksRow } from './tasks.ts';

/** How a row is called in a table. */
export function label({ weights, execution, engine }: ShownRow): string {
  const way = execution === 'full' ? 'full attention' : `segmented (${engine})`;
  return `${weights}, ${way}`;
}

/** Perplexity by length with its interval; below it what training changed. */
export function pplTable(result: PplResult, screen: Screen): string {
  const style = paint(screen);
  const { rows, lengths } = result;
  const width = Math.max('tokens'.length, ...rows.map((row) => label(row).length)) + 2;
  const cells = rows.map((row) => row.byLength.map((at) => bounded(at.perplexity, at)));
  const cellWidth = Math.max(...cells.flat().map((cell) => cell.length)) + 3;
  const cell = (text: string) => text.padStart(cellWidth);
  const lines = [
    style.dim(`${'tokens'.padEnd(width)}${lengths.map((n) => cell(`${n}`)).join('')}`),
    ...rows.map((row, i) => `${label(row).padEnd(width)}${cells[i]?.map(cell).join('')}`),
    '',
    ...positions(result, style, width),
  ];
  const ratios = result.ratios.map(({ of, to, tokens, ratio, low, high }) =>
    style.dim(`  ${of} / ${to} at ${tokens}: ${bounded(ratio, { low, high }, 3)}`),
  );
  if (ratios.length > 0) lines.push('ratios of perplexities, on the same tokens', ...ratios);
  const { level, block } = result.interval;
  const count = result.windows.length;
  lines.push(
    style.dim(
      `${count} window${count === 1 ? '' : 's'} of text; [${100 * level}% interval], bootstrap over blocks of ${block} tokens`,
    ),
  );
  if (result.unused.length > 0) {
    lines.push(
      style.yellow(
        `not measured, as shorter than a window or beyond --windows: ${result.unused.join(', ')}`,
      ),
    );
  }
  if (result.skipped.length > 0) {
    lines.push(
      style.yellow(`left out, as the text is too short: ${result.skipped.join(', ')} tokens`),
    );
  }
  return `${lines.join('\n')}\n`;
}

function positions({ rows }: PplResult, style: Paint, width: number): string[] {
  const shown = evenly(rows[0]?.byPosition ?? [], 8);
  const cell = (text: string) => text.padStart(10);
  return [
    style.dim(
      `${'perplexity at position'.padEnd(width)}${shown.map(({ from }) => cell(`${from}`)).join('')}`,
    ),
    ...rows.map((row) => {
      const cells = shown.map(({ from }) => cell(at(row, from)));
      return `${label(row).padEnd(width)}${cells.join('')}`;
    }),
    '',
  ];
}

function at(row: PplRow, from: number): string {
  const bin = row.byPosition.find((one) => one.from === from);
  return bin === undefined ? '' : figure(bin.perplexity);
}

/** At most `count` of a list, its first and last among them. */
function evenly<T>(list: readonly T[], count: number): T[] {
  if (list.length <= count) return [...list];
  const at = (i: number) => list[Math.round((i * (list.length - 1)) / (count - 1))] as T;
  return Array.from({ length: count }, (_, i) => at(i));
}

/** Scores by task, a block a length, the mean of all samples at its end. */
export function tasksTable(result: TasksResult, screen: Screen): string {
  const style = paint(screen);
  const { rows, tasks, lengths, haystack } = result;
  const width = Math.max(...tasks.map((task) => task.length)) + 2;
  const heads = rows.map(label);
  const widest = '100.0 [100.0, 100.0]'.length;
  const cells = (list: readonly string[]) =>
    list.map((text, i) => text.padStart(Math.max(heads[i]?.length ?? 0, widest) + 3)).join('');
  const lines = lengths.flatMap((length) => [
    style.dim(`${`${length} tokens`.padEnd(width)}${cells(heads)}`),
    ...tasks.map((task) => {
      const of = ({ scores }: TasksRow) => {
        const found = scores.find((one) => one.task === task && one.length === length);
        return found === undefined ? '-' : bounded(found.score, found, 1);
      };
      return `${task.padEnd(width)}${cells(rows.map(of))}`;
    }),
    style.bold(
      `${'mean'.padEnd(width)}${cells(
        rows.map(({ means }) => {
          const mean = means.find((one) => one.length === length);
          return mean === undefined ? '' : bounded(mean.score, mean, 1);
        }),
      )}`,
    ),
    '',
  ]);
  const differences = result.differences.map(({ of, to, length, difference, low, high }) =>
    style.dim(`  ${of} - ${to} at ${length}: ${bounded(difference, { low, high }, 1)}`),
  );
  if (differences.length > 0)
    lines.push('differences of means, over the same samples', ...differences);
  lines.push(
    style.dim(`0 to 100; up to ${result.samples} samples a task and length`),
    ...(haystack !== undefined && haystack.repeats > 1
      ? [
          style.yellow(
            `the text around needles has ${haystack.words} words and is repeated up to ${Math.ceil(haystack.repeats)} times in a sample: give a longer one with --haystack`,
          ),
        ]
      : []),
  );
  return `${lines.join('\n')}\n`;
}

/** `12.34 [12.01, 12.70]`. */
export function bounded(
  value: number,
  { low, high }: { low: number | null; high: number | null },
  digits = 2,
): string {
  const show = (one: number) => figure(one, digits);
  return low === null || high === null
    ? show(value)
    : `${show(value)} [${show(low)}, ${show(high)}]`;
}

function figure(value: number, digits = 2): string {
  return value < 1e6 ? value.toFixed(digits) : value.toExponential(1);
}
