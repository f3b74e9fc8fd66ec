// lockstep eval: what a checkpoint can do, beside the untrained model and beside full attention.
import path from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { Engine } from '../engines/engine.ts';
import { sampleFile } from '../engines/verify/sample.ts';
import { LockstepError } from '../errors.ts';
import { type EvalFolder, openFolder, weightsOf } from './eval-folder.ts';
import { runPpl } from './eval-ppl.ts';
import { type EvalEngine, type EvalRow, type Execution, rowsOf } from './eval-rows.ts';
import { openAlone, openSubjects, type Subjects } from './eval-subjects.ts';
import { pplTable } from './eval-table.ts';
import { asLockstepError, cancellation, type Progress, progress } from './output.ts';

export interface EvalOptions {
  suite: 'ppl' | 'ruler' | 'longbench';
  lengths?: number[];
  execution?: Execution;
  engine: EvalEngine;
  precision?: string;
  base?: string | false;
  text?: string[];
  skip: number;
  windows: number;
  bins: number;
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
    .option('--skip <characters>', 'ppl: begin behind so many characters of each text', natural, 0)
    .option('--windows <n>', 'ppl: at most so many stretches of text', positive, 4)
    .option('--bins <n>', 'ppl: ranges of positions', positive, 16)
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
    subjects =
      options.base === false ? await openAlone(where) : await openSubjects(where, options.base);
    const { contract } = subjects.files;
    const executions = options.execution ?? (['segmented', 'full'] as const);
    const rows = rowsOf(subjects.all, [executions].flat(), options.engine);
    const about = {
      suite: options.suite,
      dir: where,
      base: subjects.base,
      digest: contract.digest,
      trained: contract.trained,
      trainingContext: subjects.trainingContext,
    };
    const asked = await askedFor(options, subjects);
    folder = await openFolder(options.out, { ...about, weights: await weightsOf(subjects), asked });
    const result = await runPpl({
      ...asked,
      folder,
      dir: where,
      rows,
      bos: contract.tokenizer.bos,
      threads: options.threads ?? null,
      python: options.python,
      signal: cancel.signal,
      open: (row) => openEngine(row, options),
      onProgress: bar.update,
    });
    bar.stop();
    process.stdout.write(
      options.json
        ? `${JSON.stringify({ ...about, ...result })}\n`
        : pplTable(result, process.stdout),
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

/** What the figures depend on, defaults filled in. */
async function askedFor(options: EvalOptions, subjects: Subjects) {
  const context = subjects.trainingContext ?? subjects.files.contract.segment.max;
  return {
    texts: (options.text ?? [sampleFile]).map((file) => path.resolve(file)),
    skip: options.skip,
    lengths: options.lengths ?? [1, 2, 4, 8].map((times) => times * context),
    exact: options.lengths !== undefined,
    windows: options.windows,
    bins: options.bins,
    engine: options.engine,
    dtype: (options.engine === 'torch' ? options.precision : undefined) ?? 'float32',
  };
}

async function openEngine(row: EvalRow, options: EvalOptions): Promise<Engine> {
  if (row.engine !== 'onnx') {
    throw new LockstepError(
      'LS_EVAL_ENGINE',
      `expected an engine that gives every token's probability, got ${row.engine}`,
      { mend: 'Measure perplexity with --engine torch or onnx.', field: 'engine' },
    );
  }
  const { openOnnxEngine } = await import('../engines/onnx.ts');
  const precision = (options.precision ?? 'fp32') as 'fp32';
  return openOnnxEngine(row.dir, {
    precision,
    ...(options.threads === undefined ? {} : { threads: options.threads }),
  });
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
