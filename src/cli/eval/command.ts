// lockstep eval: what a checkpoint can do, beside the untrained model and beside full attention.
import path from 'node:path';
import { Command, Option } from 'commander';
import { lengths, names, parseNonNegativeInt, parsePositiveInt } from '../shared/option-values.ts';
import { asLockstepError, cancellation } from '../shared/output.ts';
import { stageBar } from '../shared/stage-bar.ts';
import { noWeightsCheck } from '../shared/weights-option.ts';
import {
  checkEngines,
  openRunner,
  openStepped,
  type RowEngineOptions,
  rowEngineOptions,
} from './engine.ts';
import { type EvalFolder, openFolder, weightsOf } from './folder.ts';
import { checkOptions, type EvalOptions, pplAsked, tasksAsked } from './options.ts';
import { type PplInput, runPpl } from './ppl.ts';
import { rowsOf } from './rows.ts';
import { type EvaluatedCheckpoints, openSubjects } from './subjects.ts';
import { pplTable, tasksTable } from './table.ts';
import { rulerTasks, runTasks, type TasksInput } from './tasks.ts';

export function evalCommand(): Command {
  return new Command('eval')
    .description('measure a checkpoint against the untrained model and against full attention')
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
      new Option('--attention <name>', 'only one of the two (default: both)').choices([
        'segmented',
        'full',
      ]),
    )
    .addOption(
      new Option('--engine <name>', 'what runs the segments')
        .choices(['torch', 'onnx', 'vllm'])
        .default('torch'),
    )
    .option(
      '--precision <name>',
      'precision of the engine; see lockstep serve --help (vllm: the checkpoint’s own by default)',
    )
    .option('--base <dir>', 'the untrained model (default: the one that the checkpoint names)')
    .option('--no-base', 'skip the untrained model')
    .option('--text <file...>', 'ppl: UTF-8 texts (default: a built-in sample)')
    .option(
      '--skip <characters>',
      'ppl: skip this many characters at the start of each text',
      parseNonNegativeInt,
    )
    .option(
      '--windows <n>',
      'ppl: maximum number of windows of text (default: 4)',
      parsePositiveInt,
    )
    .option('--bins <n>', 'ppl: number of ranges of positions (default: 16)', parsePositiveInt)
    .option('--tasks <name,…>', `some of ${rulerTasks.join(', ')}; or of LongBench’s`, names)
    .option(
      '--samples <n>',
      'ruler, longbench: samples of each task and length (default: 20)',
      parsePositiveInt,
    )
    .option('--seed <n>', 'ruler: seed of the samples (default: 42)', parseNonNegativeInt)
    .option('--haystack <file>', 'ruler: UTF-8 text to hide needles in (default: a sample)')
    .option('--chat', 'ruler, longbench: ask through the checkpoint’s chat template')
    .option('--data <dir>', 'longbench: a copy of its data; see docs/eval.md')
    .option('--out <dir>', 'save results here; the same command resumes from them')
    .option('--device <name>', 'ppl: where torch computes: cpu, cuda (default: cpu)')
    .option('--threads <n>', 'threads of the computation (torch, onnx)', parsePositiveInt)
    .option('--python <path>', 'Python interpreter')
    .addOption(noWeightsCheck())
    .option('--json', 'print one JSON object')
    .action((dir: string, options: EvalOptions) => runEval(dir, options));
}

async function runEval(dir: string, options: EvalOptions): Promise<void> {
  const cancel = cancellation();
  const bar = stageBar({ width: 20 });
  let subjects: EvaluatedCheckpoints | undefined;
  let folder: EvalFolder | undefined;
  try {
    const where = path.resolve(dir);
    checkOptions(options);
    subjects = await openSubjects(where, options.base);
    const { contract } = subjects.files;
    const attentions = [options.attention ?? (['segmented', 'full'] as const)].flat();
    const rows = rowsOf(subjects.all, attentions, options.engine, options.precision ?? null);
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
      options.suite === 'ppl' ? pplAsked(options, context) : tasksAsked(options, context);
    const { python, threads, device = 'cpu' } = options;
    const { signal } = cancel;
    const engine = rowEngineOptions(options, Math.max(...asked.lengths), signal, bar);
    await checkEngines(rows, engine);
    const weights = await weightsOf(subjects);
    // How many ranges of positions are shown changes no loss.
    const { bins: _, ...kept } = { bins: null, ...asked };
    folder = await openFolder(options.out, {
      ...about,
      weights,
      ...{ engine: options.engine, precision: options.precision ?? null },
      ...{ device, asked: kept },
    });
    const common = {
      ...{ dir: where, rows, python, signal },
      ...{ folder: folder.dir, onProgress: bar.update },
    };
    let shown: Shown;
    if ('texts' in asked) {
      const { bos } = contract.tokenizer;
      const input = { ...asked, ...common, bos, device, threads: threads ?? null };
      shown = await measurePpl(input, engine);
    } else {
      shown = await measureTasks({ asked, contract, ...common }, engine);
    }
    bar.stop();
    process.stdout.write(
      options.json ? `${JSON.stringify({ ...about, ...shown.result })}\n` : shown.table,
    );
  } catch (error) {
    throw asLockstepError(cancel.reason(error));
  } finally {
    bar.stop();
    await folder?.close();
    await subjects?.close();
    cancel.stop();
  }
}

interface Shown {
  result: object;
  table: string;
}

async function measurePpl(input: Omit<PplInput, 'open'>, engine: RowEngineOptions): Promise<Shown> {
  const result = await runPpl({ ...input, open: (row) => openStepped(row, engine) });
  return { result, table: pplTable(result, process.stdout) };
}

async function measureTasks(
  input: Omit<TasksInput, 'open'>,
  engine: RowEngineOptions,
): Promise<Shown> {
  const result = await runTasks({ ...input, open: (row) => openRunner(row, engine) });
  return { result, table: tasksTable(result, process.stdout) };
}
