// lockstep eval: what a checkpoint can do, beside the untrained model and beside full attention.
import path from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { sampleFile } from '../engines/verify/sample.ts';
import { LockstepError } from '../errors.ts';
import { checkEngines, openRunner, openStepped, type RowEngineOptions } from './eval-engine.ts';
import { type EvalFolder, openFolder, weightsOf } from './eval-folder.ts';
import { runPpl } from './eval-ppl.ts';
import { type EvalEngine, type EvalRow, type Execution, rowsOf } from './eval-rows.ts';
import { rulerTasks, runRuler } from './eval-ruler.ts';
import { openAlone, openSubjects, type Subjects } from './eval-subjects.ts';
import { pplTable, rulerTable } from './eval-table.ts';
import { asLockstepError, cancellation, type Progress, progress } from './output.ts';

export interface EvalOptions {
  suite: 'ppl' | 'ruler' | 'longbench';
  lengths?: number[];
  execution?: Execution;
  engine: EvalEngine;
  precision?: string;
  base?: string | false;
  text?: string[];
  skip?: number;
  windows?: number;
  bins?: number;
  tasks?: string[];
  samples?: number;
  seed?: number;
  haystack?: string;
  chat?: true;
  out?: string;
  threads?: number;
  python?: string;
  json?: true;
}

export function evalCommand(): Command {
  return new Command('eval')
    .description('measure a checkpoint beside the untrained model and beside full attention')
    .argument('<dir>', 'checkpoint folder with a contract')
    .addOption(
      new Option('--suite <name>', 'what to measure')
        .choices(['ppl', 'ruler', 'longbench'])
        .default('ppl'),
    )
    .option(
      '--lengths <n,…>',
      'tokens (default: 1, 2, 4 and 8 times the training context)',
      lengths,
    )
    .addOption(
      new Option('--execution <name>', 'only one of the two (default: both)').choices([
        'segmented',
        'full',
      ]),
    )
    .addOption(
      new Option('--engine <name>', 'what runs the segments')
        .choices(['torch', 'onnx', 'vllm'])
        .default('torch'),
    )
    .option('--precision <name>', 'of that engine; see lockstep serve --help')
    .option('--base <dir>', 'the untrained model (default: where the checkpoint says it lies)')
    .option('--no-base', 'leave the untrained model out')
    .option('--text <file...>', 'ppl: UTF-8 texts (default: a sample of Lockstep)')
    .option('--skip <characters>', 'ppl: begin behind so many characters of each text', natural)
    .option('--windows <n>', 'ppl: at most so many stretches of text (default: 4)', positive)
    .option('--bins <n>', 'ppl: ranges of positions (default: 16)', positive)
    .option('--tasks <name,…>', `ruler: some of ${rulerTasks.join(', ')}`, names)
    .option('--samples <n>', 'ruler: a task and length (default: 20; published: 500)', positive)
    .option('--seed <n>', 'ruler: other samples (default: 42)', natural)
    .option('--haystack <file>', 'ruler: UTF-8 text to hide needles in (default: a sample)')
    .option('--chat', 'ruler: ask as a user of the checkpoint’s chat template')
    .option('--out <dir>', 'keep results here, and go on from what is there')
    .option('--threads <n>', 'threads of the computation', positive)
    .option('--python <path>', 'interpreter to use')
    .option('--json', 'print one JSON object')
    .action((dir: string, options: EvalOptions) => runEval(dir, options));
}

async function runEval(dir: string, options: EvalOptions): Promise<void> {
  const cancel = cancellation();
  const bar = rowBar(options.json === true);
  let subjects: Subjects | undefined;
  let folder: EvalFolder | undefined;
  try {
    const where = path.resolve(dir);
    checkOptions(options);
    subjects =
      options.base === false ? await openAlone(where) : await openSubjects(where, options.base);
    const { contract } = subjects.files;
    const executions = [options.execution ?? (['segmented', 'full'] as const)].flat();
    const rows = rowsOf(subjects.all, executions, options.engine, options.precision ?? null);
    const { python, threads } = options;
    const { signal } = cancel;
    const engine: RowEngineOptions = {
      ...{ signal, say: (line) => bar.update(line, 0, 1) },
      ...(python === undefined ? {} : { python }),
      ...(threads === undefined ? {} : { threads }),
    };
    await checkEngines(rows, engine);
    const about = {
      suite: options.suite,
      dir: where,
      base: subjects.base,
      digest: contract.digest,
      trained: contract.trained,
      trainingContext: subjects.trainingContext,
    };
    const context = subjects.trainingContext ?? contract.segment.max;
    const asked =
      options.suite === 'ppl' ? pplAsked(options, context) : rulerAsked(options, context);
    const weights = await weightsOf(subjects);
    folder = await openFolder(options.out, {
      ...about,
      weights,
      ...{ engine: options.engine, precision: options.precision ?? null },
      asked,
    });
    const common = {
      ...{ dir: where, rows, bos: contract.tokenizer.bos, python, signal },
      ...{ folder: folder.dir, onProgress: bar.update },
    };
    let shown: { result: object; table: string };
    if ('texts' in asked) {
      const open = (row: EvalRow) => openStepped(row, engine);
      const result = await runPpl({ ...asked, ...common, threads: threads ?? null, open });
      shown = { result, table: pplTable(result, process.stdout) };
    } else {
      const open = (row: EvalRow) => openRunner(row, engine);
      const result = await runRuler({ ...asked, ...common, open });
      shown = { result, table: rulerTable(result, process.stdout) };
    }
    bar.stop();
    process.stdout.write(
      options.json ? `${JSON.stringify({ ...about, ...shown.result })}\n` : shown.table,
    );
  } catch (error) {
    throw asLockstepError(cancel.signal.aborted ? cancel.signal.reason : error);
  } finally {
    bar.stop();
    await folder?.close();
    await subjects?.close();
    cancel.stop();
  }
}

/** What perplexities depend on, defaults filled in. */
function pplAsked(options: EvalOptions, context: number) {
  return {
    texts: (options.text ?? [sampleFile]).map((file) => path.resolve(file)),
    skip: options.skip ?? 0,
    lengths: options.lengths ?? multiples.map((times) => times * context),
    exact: options.lengths !== undefined,
    windows: options.windows ?? 4,
    bins: options.bins ?? 16,
  };
}

/** Below this the recipe's smallest samples of some tasks do not fit. */
const leastRuler = 1024;

function rulerAsked(options: EvalOptions, context: number) {
  const usual = multiples.map((times) => times * context).filter((n) => n >= leastRuler);
  return {
    tasks: options.tasks ?? [...rulerTasks],
    lengths: options.lengths ?? (usual.length > 0 ? usual : [leastRuler]),
    samples: options.samples ?? 20,
    seed: options.seed ?? 42,
    haystack: path.resolve(options.haystack ?? sampleFile),
    chat: options.chat ?? false,
  };
}

/** Times the training context. */
const multiples = [1, 2, 4, 8];

const onlyFor = {
  ppl: ['text', 'skip', 'windows', 'bins'],
  ruler: ['tasks', 'samples', 'seed', 'haystack', 'chat'],
} as const;

/** @throws LS_USAGE for an option that says nothing to the suite; LS_EVAL_*  */
function checkOptions(options: EvalOptions): void {
  if (options.suite === 'longbench') {
    throw new LockstepError(
      'LS_EVAL_LONGBENCH',
      'expected LongBench’s data, got none: it cannot be made offline',
      {
        mend: 'Measure with --suite ruler.',
        field: 'suite',
      },
    );
  }
  for (const [suite, names] of Object.entries(onlyFor)) {
    const name = names.find((one) => options[one] !== undefined);
    if (suite === options.suite || name === undefined) continue;
    throw new LockstepError(
      'LS_USAGE',
      `expected --suite ${suite} beside --${name}, got ${options.suite}`,
      {
        mend: `Leave --${name} out.`,
        field: name,
      },
    );
  }
  if (options.suite === 'ppl' && options.engine === 'vllm') {
    throw new LockstepError(
      'LS_EVAL_ENGINE',
      'expected an engine that gives every token’s probability, got vllm',
      { mend: 'Measure perplexity with --engine torch or onnx.', field: 'engine' },
    );
  }
}

/** One bar at a time: a new row ends the one before. */
function rowBar(silent: boolean): {
  update(row: string, done: number, total: number): void;
  stop(): void;
} {
  let current: { row: string; bar: Progress } | undefined;
  return {
    update(row, done, total) {
      if (current?.row !== row) {
        current?.bar.stop();
        current = { row, bar: progress({ label: row.padEnd(20), total, silent }) };
      }
      current.bar.update(done, `${done}/${total}`);
    },
    stop: () => current?.bar.stop(),
  };
}

function lengths(text: string): number[] {
  const list = text.split(',').map(positive);
  if (list.some((n) => n < 2)) throw new InvalidArgumentError('expected lengths of at least 2.');
  return [...new Set(list)].sort((a, b) => a - b);
}

function names(text: string): string[] {
  const list = text.split(',').map((name) => name.trim());
  const known: readonly string[] = rulerTasks;
  const unknown = list.find((name) => !known.includes(name));
  if (unknown === undefined) return known.filter((name) => list.includes(name));
  throw new InvalidArgumentError(`expected ${known.join(', ')}, got ${unknown}.`);
}

function positive(text: string): number {
  const value = natural(text);
  if (value > 0) return value;
  throw new InvalidArgumentError('expected a whole number from 1 on.');
}

function natural(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new InvalidArgumentError('expected a whole number.');
}
