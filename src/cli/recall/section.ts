// What a report says of recall: a grid, a table, the heads that held needles.
import { thousands } from '../plan/segment-map.ts';
import { figureOf, type Section } from '../report/section.ts';
import { documentsText, labelOf, shownRows, topHeads } from './grid.ts';
import { gridSvg } from './picture.ts';
import type { RecallFigures, RecallResult } from './run.ts';

export function recallSection(result: RecallResult): Section {
  const { asked, text } = result;
  const rows = shownRows(result);
  const heads = rows.filter((row) => row.heads !== null);
  const repeated =
    text.repeats > 1
      ? ` The text has ${thousands(text.tokens)} tokens and is repeated up to ${text.repeats} times in a document.`
      : '';
  return {
    title: 'Recall',
    paragraphs: [
      `Needles (numbers, names, code identifiers, sentences) were hidden in a text, one at each depth, and asked for at its end: ${documentsText(asked.samples)} per length. A needle is recalled if each token of its answer is the most probable one after those before it.${repeated}`,
    ],
    figures: [
      figureOf(
        'recall',
        `Share of needles recalled by length and depth: ${rows.map(labelOf).join('; ')}`,
        (width) => gridSvg(result, width),
      ),
    ],
    tables: [
      {
        caption: 'Share of needles recalled over all depths, with 95% intervals over documents',
        head: ['tokens of the text', ...asked.lengths.map(thousands)],
        rows: rows.map((row) => [
          labelOf(row),
          ...asked.lengths.map((length) => shareOf(row, length)),
        ]),
      },
      {
        caption: 'Mean log p of a token of the answer, in nats',
        head: ['tokens of the text', ...asked.lengths.map(thousands)],
        rows: rows.map((row) => [
          labelOf(row),
          ...asked.lengths.map((length) => lengthOf(row, length)?.logp.toFixed(2) ?? ''),
        ]),
      },
      ...(heads.length === 0
        ? []
        : [
            {
              caption:
                'Long heads that held needles most often (layer.head and share of the needles)',
              head: ['', 'heads'],
              words: true as const,
              rows: heads.map((row) => [
                labelOf(row),
                topHeads(row, 12)
                  .map(({ layer, head, held }) => `${layer}.${head} ${percent(held)}`)
                  .join(', '),
              ]),
            },
          ]),
    ],
  };
}

function lengthOf(
  { lengths }: RecallFigures,
  length: number,
): RecallFigures['lengths'][number] | undefined {
  return lengths.find((one) => one.length === length);
}

function shareOf(row: RecallFigures, length: number): string {
  const found = lengthOf(row, length);
  if (found === undefined) return '';
  const { recalled, low, high } = found;
  return low === null || high === null
    ? percent(recalled)
    : `${percent(recalled)} [${Math.round(100 * low)},\u00a0${Math.round(100 * high)}]`;
}

const percent = (share: number): string => `${Math.round(100 * share)}%`;
