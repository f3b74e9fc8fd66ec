// What a report says of recall: a grid, a table, the heads that held facts.
import { bounded } from '../eval/table.ts';
import { thousands } from '../plan/segment-map.ts';
import type { Section } from '../report/section.ts';
import { documentsText, keenest, labelOf, shownRows } from './grid.ts';
import { gridSvg } from './picture.ts';
import type { RecallResult } from './run.ts';

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
      `Facts (numbers, names, code identifiers, sentences) were hidden in a text, one at each depth, and asked for at its end: ${documentsText(asked.samples)} per length. A fact is recalled if each token of its answer is the most probable one after those before it.${repeated}`,
    ],
    figures: [
      {
        name: 'recall',
        alt: `Share of facts recalled by length and depth: ${rows.map(labelOf).join('; ')}`,
        svg: gridSvg(result),
      },
    ],
    tables: [
      {
        caption:
          'Share recalled over all depths, with 95% intervals over documents, and mean log p of an answer’s token',
        head: ['', ...asked.lengths.map(thousands)],
        rows: rows.map((row) => [
          labelOf(row),
          ...asked.lengths.map((length) => {
            const found = row.lengths.find((one) => one.length === length);
            return found === undefined
              ? ''
              : `${bounded(found.recalled, found)} (${found.logp.toFixed(2)})`;
          }),
        ]),
      },
      ...(heads.length === 0
        ? []
        : [
            {
              caption: 'Long heads that held facts most often (layer.head: share of the facts)',
              head: ['', 'heads'],
              rows: heads.map((row) => [
                labelOf(row),
                keenest(row, 12)
                  .map(({ layer, head, held }) => `${layer}.${head}: ${held.toFixed(2)}`)
                  .join(', '),
              ]),
            },
          ]),
    ],
  };
}
