// lockstep quickstart: the whole way through on real text, each stage the command a user would run.
import { existsSync } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import path from 'node:path';
import { Command, Option } from 'commander';
import { contractFile } from '../../checkpoint/index.ts';
import { loadConfig } from '../../config/index.ts';
import { readModel } from '../../contract/model.ts';
import { LockstepError } from '../../errors.ts';
import { packageRoot } from '../../paths.ts';
import { shellWord } from '../../shell-word.ts';
import type { RecallResult } from '../recall/run.ts';
import { recallTable } from '../recall/table.ts';
import { parseMinutes, parsePositiveInt, port } from '../shared/option-values.ts';
import { complete, startServer } from './serving.ts';
import { runStage, type StageEvent } from './stage.ts';
import { perplexityTable, type QuickstartPerplexity, verifyTable } from './tables.ts';

interface QuickstartOptions {
  config: string;
  exit?: true;
  json?: true;
  minutes?: number;
  port: number;
  quick?: true;
  steps?: number;
}

/** Shares of needles recalled at one length. */
export interface QuickstartRecall {
  full: number;
  segmentedBefore: number;
  segmentedAfter: number;
}

/** The text that nothing here was trained on, and how far in its measuring starts (characters). */
const HELD_OUT = path.join('.lockstep', 'texts', 'milton', 'paradiselost.txt');
const HELD_OUT_SKIP = 60_000;

/** What is measured: perplexity over so many tokens, and needles in texts of so many, five in each document. */
interface Measured {
  perplexity: number[];
  recall: number[];
  documents: number;
  /** Tokens that every engine is compared over. */
  verify: number;
}
const WHOLE: Measured = {
  perplexity: [2048, 4096],
  recall: [1024, 2048],
  documents: 2,
  verify: 512,
};
const QUICK: Measured = { perplexity: [1024], recall: [1024], documents: 1, verify: 256 };
/** The example that comes with Lockstep: its own results are replaced. */
const EXAMPLE = path.join(packageRoot, 'examples', 'quickstart', 'lockstep.config.ts');
const PROMPT = 'ROMEO. But soft, what light through yonder window breaks?';

export function quickstartCommand(): Command {
  return new Command('quickstart')
    .description('train SmolLM2 on Shakespeare in segments, verify it, export it and serve it')
    .option('--config <file>', 'the example to run', EXAMPLE)
    .addOption(new Option('--exit', 'make one completion over HTTP, then exit').conflicts('port'))
    .option('--json', 'print one JSON object as the last line')
    .option('--minutes <n>', "train this long instead of the config's time", parseMinutes)
    .addOption(
      new Option('--steps <n>', 'train this many optimizer steps instead')
        .argParser(parsePositiveInt)
        .conflicts('minutes'),
    )
    .option('--port <n>', 'port of the server', port, 8080)
    .option('--quick', 'measure less: one length each, five needles, 256 tokens to verify')
    .action((options: QuickstartOptions) => quickstart(options));
}

/** The budget of the training, where it is not the config's. */
function budget({ minutes, steps }: QuickstartOptions): string[] {
  if (steps !== undefined) return ['--steps', `${steps}`];
  return minutes === undefined ? [] : ['--minutes', `${minutes}`];
}

async function quickstart(options: QuickstartOptions): Promise<void> {
  const heldOut = path.join(packageRoot, HELD_OUT);
  if (!existsSync(heldOut)) {
    throw new LockstepError('LS_QUICKSTART_INPUTS', `expected the text ${HELD_OUT}, got no file.`, {
      fix: 'The quickstart is part of a clone: run npm run setup there.',
    });
  }
  const config = await loadConfig(options.config);
  const measured = options.quick ? QUICK : WHOLE;
  await readModel(config.model);
  const trained = config.out;
  const untrained = `${trained}-untrained`;
  const example = path.resolve(options.config) === EXAMPLE;
  for (const folder of [trained, untrained]) await checkFree(folder, example, options.config);
  const abort = new AbortController();
  const cancel = (): void =>
    abort.abort(
      new LockstepError('LS_CANCELLED', 'the quickstart was cancelled.', {
        fix: 'Run npm start again; it repeats every stage.',
      }),
    );
  process.once('SIGINT', cancel);
  process.once('SIGTERM', cancel);

  const seconds: Record<string, number> = {};
  const stage = async (
    name: string,
    args: string[],
    accept: number[] = [],
  ): Promise<StageEvent> => {
    say(`\n● ${name}   lockstep ${args.map((arg) => shellWord(shorten(arg))).join(' ')}`);
    const started = performance.now();
    const result = await runStage(args, { signal: abort.signal, accept, onEvent: progress });
    seconds[name] = round((performance.now() - started) / 1000, 1);
    return result;
  };

  const started = performance.now();
  // These two refuse to replace what is no checkpoint, too.
  const attach = ['attach', config.model, '--config', options.config, '--out', untrained];
  await stage('attach', example ? [...attach, '--force'] : attach);
  const measure = [
    '--text',
    heldOut,
    '--skip',
    `${HELD_OUT_SKIP}`,
    '--tokens',
    measured.perplexity.join(),
  ];
  const before = await stage('perplexity before', [
    'perplexity',
    untrained,
    ...measure,
    '--attention',
    'full,noSinks,segmented',
  ]);
  const train = ['train', '--config', options.config, ...budget(options)];
  await stage('train', example ? [...train, '--overwrite'] : train);
  const after = await stage('perplexity after', [
    'perplexity',
    trained,
    ...measure,
    '--attention',
    'segmented',
  ]);
  const perplexity = join(measured.perplexity, before, after);
  say(`\n${perplexityTable(perplexity)}`);
  const recalled = await stage('recall', [
    'recall',
    trained,
    ...['--text', heldOut, '--skip', `${HELD_OUT_SKIP}`, '--card'],
    ...['--lengths', measured.recall.join(), '--samples', `${measured.documents}`],
  ]);
  const grid = recalled as unknown as RecallResult;
  say(`\n${recallTable(grid, process.stderr)}`);
  await stage('export', ['export', trained, '--precision', 'fp32']);
  const verified = await stage(
    'verify',
    [
      'verify',
      trained,
      ...['--text', heldOut, '--tokens', `${measured.verify}`, '--against', 'onnx,torch'],
    ],
    [1],
  );
  const rows = verified['engines'] as StageEvent[];
  say(`\n${verifyTable(rows)}`);

  const server = await startServer(trained, options.exit ? 0 : options.port, abort.signal);
  try {
    const asked = performance.now();
    const completion = await complete(server.url, PROMPT, abort.signal);
    seconds['completion'] = round((performance.now() - asked) / 1000, 1);
    seconds['total'] = round((performance.now() - started) / 1000, 1);
    say(`\n${PROMPT}\n  … ${completion.trim()}\n`);
    const recall = recallByLength(grid);
    const result = { checkpoint: trained, perplexity, recall, verify: rows, completion, seconds };
    if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
    if (verified['ok'] !== true) {
      throw new LockstepError(
        'LS_VERIFY_FAILED',
        'expected every engine to agree, got the table above.',
        {
          fix: `Run lockstep verify ${shellWord(trained)} --json: firstDivergence is where they first differ. docs/verify.md#when-it-fails says what to do.`,
        },
      );
    }
    if (!options.exit) {
      say(`The page: ${server.url}/   (Ctrl-C stops it)`);
      await server.closed;
    }
  } finally {
    await server.stop();
    process.off('SIGINT', cancel);
    process.off('SIGTERM', cancel);
  }
}

/**
 * The example's own checkpoints are made anew; whatever else is there is the user's, and stays.
 *
 * @throws LS_QUICKSTART_EXISTS
 */
async function checkFree(folder: string, example: boolean, config: string): Promise<void> {
  const there = await lstat(folder).catch(() => null);
  if (there === null) return;
  const names = there.isDirectory() ? await readdir(folder) : null;
  if (names?.length === 0 || (example && names?.includes(contractFile))) return;
  const wanted = example ? 'a checkpoint of the quickstart or nothing' : 'nothing';
  throw new LockstepError(
    'LS_QUICKSTART_EXISTS',
    `expected ${wanted} at ${folder}, got ${names?.includes(contractFile) ? 'a checkpoint' : 'something else'}`,
    {
      fix: `Set another \`out\` in ${config}, or move it away; nothing was changed.`,
      field: 'out',
    },
  );
}

/** Progress of a training: one of its steps at most every five seconds. */
let shown = 0;
function progress(event: StageEvent): void {
  if (event['event'] !== 'step' || performance.now() - shown < 5000) return;
  shown = performance.now();
  const number = (key: string, digits: number): string => Number(event[key]).toFixed(digits);
  say(
    `  step ${event['step']}   loss ${number('loss', 3)}   ${number('tokensPerSecond', 0)} tokens/s   ${number('eta', 0)} s to go`,
  );
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

function shorten(arg: string): string {
  const relative = path.isAbsolute(arg) ? path.relative(process.cwd(), arg) : arg;
  return relative === '' || relative.startsWith('..') ? arg : relative;
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}
