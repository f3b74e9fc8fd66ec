// What `lockstep recall` prints: a coloured grid for every row, one line a length.
import { bounded } from '../eval/table.ts';
import { hasColor, paint, type Screen } from '../shared/output.ts';
import { documentsText, gridOf, labelOf, shadeOf, shownRows, topHeads } from './grid.ts';
import type { RecallResult } from './run.ts';

const cellWidth = 6;

export function recallTable(result: RecallResult, screen: Screen): string {
  const { bold, dim, yellow } = paint(screen);
  const color = hasColor(screen);
  const { lengths, depths, samples } = result.asked;
  const head = `${'tokens'.padStart(8)}  ${depths.map((x) => `${x}`.padStart(cellWidth)).join('')}   all depths         log p`;
  const lines = shownRows(result).flatMap((row) => {
    const grid = gridOf(row, lengths, depths);
    const body = lengths.map((length, i) => {
      const cells = (grid[i] ?? []).map((share) => cell(share, color)).join('');
      const mean = row.lengths.find((one) => one.length === length);
      const all = mean === undefined ? '' : bounded(mean.recalled, mean).padEnd(18);
      return `${`${length}`.padStart(8)}  ${cells}   ${all} ${mean?.logp.toFixed(2) ?? ''}`;
    });
    const heads = topHeads(row, 6).map(
      ({ layer, head, held }) => `${layer}.${head} ${percent(held)}`,
    );
    const kept =
      heads.length === 0
        ? []
        : [dim(`  heads that held most needles (layer.head) ${heads.join(', ')}`)];
    return [bold(labelOf(row)), dim(head), ...body, ...kept, ''];
  });
  const differences = result.differences.map(({ of, to, length, difference, low, high }) =>
    dim(`  ${of} - ${to} at ${length}: ${bounded(difference, { low, high })}`),
  );
  if (differences.length > 0)
    lines.push('differences of shares, over the same needles', ...differences);
  lines.push(
    dim(
      `share of needles recalled, by place in the text (0: beginning, 1: end); ${documentsText(samples)} per length, [95% intervals over documents]; a needle counts if each token of its answer is the most probable one`,
    ),
  );
  if (result.text.repeats > 1) {
    lines.push(
      yellow(
        `the text has ${result.text.tokens} tokens and is repeated up to ${result.text.repeats} times in a document: give a longer one with --text`,
      ),
    );
  }
  return `${lines.join('\n')}\n`;
}

function cell(share: number | null, color: boolean): string {
  const text = (share === null ? '-' : percent(share)).padStart(cellWidth);
  if (share === null || !color) return text;
  const [r, g, b] = [1, 3, 5].map((at) => Number.parseInt(shadeOf(share).slice(at, at + 2), 16));
  return `\x1b[38;5;231;48;2;${r};${g};${b}m${text}\x1b[0m`;
}

function percent(share: number): string {
  return `${Math.round(100 * share)}%`;
}
