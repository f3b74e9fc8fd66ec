// The stages that train and that measure what came of it, each with its table.
import path from 'node:path';
import { packageRoot } from '../../paths.ts';
import type { RecallResult } from '../recall/run.ts';
import { recallTable } from '../recall/table.ts';
import type { StageEvent } from './stage.ts';
import { perplexityTable, type QuickstartPerplexity, verifyTable } from './tables.ts';
import { type RunTimed, say } from './timed-stages.ts';

/** Shares of needles recalled at one length. */
export interface QuickstartRecall {
  full: number;
  segmentedBefore: number;
  segmentedAfter: number;
}

/** The text that nothing here was trained on, and how far in its measuring starts (characters). */
export const HELD_OUT = path.join('.lockstep', 'texts', 'milton', 'paradiselost.txt');
const HELD_OUT_SKIP = 60_000;

/** What is measured: perplexity over so many tokens, and needles in texts of so many, five in each document. */
export interface Measured {
  perplexity: number[];
  recall: number[];
  documents: number;
  /** Tokens that every engine is compared over. */
  verify: number;
}
export const WHOLE: Measured = {
  perplexity: [2048, 4096],
  recall: [1024, 2048],
  documents: 2,
  verify: 512,
};
export const QUICK: Measured = { perplexity: [1024], recall: [1024], documents: 1, verify: 256 };
const TEXT = path.join(packageRoot, HELD_OUT);

/** Where the stages work. */
export interface Checkpoints {
  /** The config, and the model that it trains. */
  config: string;
  model: string;
  untrained: string;
  trained: string;
  /** What stands in the two folders is the example's own, and is replaced. */
  replace: boolean;
}

/**
 * Perplexity before and after a training.
 *
 * @param budget options of the training
 */
export async function trainAndCompare(
  run: RunTimed,
  { config, model, untrained, trained, replace }: Checkpoints,
  lengths: readonly number[],
  budget: readonly string[],
): Promise<Record<string, QuickstartPerplexity>> {
  // These two refuse to replace what is no checkpoint, too.
  const attach = ['attach', model, '--config', config, '--out', untrained];
  await run('attach', replace ? [...attach, '--force'] : attach);
  const perplexity = (checkpoint: string, kinds: string) => [
    ...['perplexity', checkpoint, '--text', TEXT, '--skip', `${HELD_OUT_SKIP}`],
    ...['--tokens', lengths.join(), '--attention', kinds],
  ];
  const before = await run('perplexity before', perplexity(untrained, 'full,noSinks,segmented'));
  const train = ['train', '--config', config, ...budget];
  await run('train', replace ? [...train, '--overwrite'] : train);
  const after = await run('perplexity after', perplexity(trained, 'segmented'));
  const compared = join(lengths, before, after);
  say(`\n${perplexityTable(compared)}`);
  return compared;
}

/** Needles that the checkpoint and the model before its training recall. */
export async function askNeedles(
  run: RunTimed,
  checkpoint: string,
  { recall, documents }: Measured,
): Promise<Record<string, QuickstartRecall>> {
  const recalled = await run('recall', [
    'recall',
    checkpoint,
    ...['--text', TEXT, '--skip', `${HELD_OUT_SKIP}`, '--card'],
    ...['--lengths', recall.join(), '--samples', `${documents}`],
  ]);
  const grid = recalled as unknown as RecallResult;
  say(`\n${recallTable(grid, process.stderr)}`);
  return recallByLength(grid);
}

/** Compare the engines over so many tokens: what each of them gave, and whether all agree. */
export async function exportAndVerify(
  run: RunTimed,
  checkpoint: string,
  tokens: number,
): Promise<{ rows: StageEvent[]; ok: boolean }> {
  await run('export', ['export', checkpoint, '--precision', 'fp32']);
  const compare = ['--text', TEXT, '--tokens', `${tokens}`, '--against', 'onnx,torch'];
  const verified = await run('verify', ['verify', checkpoint, ...compare], [1]);
  const rows = verified['engines'] as StageEvent[];
  say(`\n${verifyTable(rows)}`);
  return { rows, ok: verified['ok'] === true };
}

function join(
  lengths: readonly number[],
  before: StageEvent,
  after: StageEvent,
): Record<string, QuickstartPerplexity> {
  type Table = Record<string, Record<string, number>>;
  const first = before['perplexity'] as Table;
  const last = after['perplexity'] as Table;
  return Object.fromEntries(
    lengths.map((length) => {
      const row = first[length];
      return [
        `${length}`,
        {
          full: row?.['full'] ?? Number.NaN,
          noSinks: row?.['noSinks'] ?? Number.NaN,
          segmentedBefore: row?.['segmented'] ?? Number.NaN,
          segmentedAfter: last[length]?.['segmented'] ?? Number.NaN,
        },
      ];
    }),
  );
}

/** Shares recalled over all depths, by length. */
function recallByLength({ asked, rows }: RecallResult): Record<string, QuickstartRecall> {
  const at = (name: string, length: number): number =>
    rows.find((row) => row.name === name)?.lengths.find((one) => one.length === length)?.recalled ??
    Number.NaN;
  return Object.fromEntries(
    asked.lengths.map((length) => [
      `${length}`,
      {
        full: at('untrained-full', length),
        segmentedBefore: at('untrained-segmented', length),
        segmentedAfter: at('trained-segmented', length),
      },
    ]),
  );
}
