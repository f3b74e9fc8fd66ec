// lockstep recall: what a checkpoint still finds of what it read, by length and depth.
import path from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { readContract } from '../../checkpoint/index.ts';
import { replaceFile } from '../../checkpoint/write.ts';
import { sampleFile } from '../../engines/verify/sample.ts';
import { loadTokenizer } from '../../tokenizer/tokenizer.ts';
import { checkEngines, rowEngineOptions } from '../eval/engine.ts';
import { type EvalFolder, openFolder, weightsOf } from '../eval/folder.ts';
import { rowsOf } from '../eval/rows.ts';
import { type EvaluatedCheckpoints, openSubjects } from '../eval/subjects.ts';
import { chatWrapOrPlain, plainWrap } from '../shared/chat-wrap.ts';
import { checkHtml } from '../shared/html-file.ts';
import { lengths, names, parseNonNegativeInt, parsePositiveInt } from '../shared/option-values.ts';
import { asLockstepError, cancellation } from '../shared/output.ts';
import { stageBar } from '../shared/stage-bar.ts';
import { noWeightsCheck } from '../shared/weights-option.ts';
import { checkWritable } from '../shared/writable.ts';
import { comparedRows, openCompared } from './compared.ts';
import { recallHtml } from './html.ts';
import { notWritten, recallFile, storeRecall } from './recall-file.ts';
import { type RecallAsked, type RecallRow, runRecall } from './run.ts';
import { recallTable } from './table.ts';

interface RecallOptions {
  lengths: number[];
  depths: number[];
  samples: number;
  seed: number;
  text: string;
  skip: number;
  base?: string | false;
  compare?: string[];
  engine: 'torch' | 'onnx';
  precision?: string;
  /** false: `--no-chat`. */
  chat: boolean;
  html?: string;
  card?: true;
  out?: string;
  device: string;
  threads?: number;
  python?: string;
  json?: true;
}

export function recallCommand(): Command {
  return new Command('recall')
    .description(
      'measure recall of needles (facts hidden in a text), segmented and with full attention',
    )
    .argument('<dir>', 'checkpoint folder with a contract')
    .option('--lengths <n,…>', 'tokens of a document', lengths, [1024, 2048])
    .option(
      '--depths <x,…>',
      'where needles are hidden: 0 beginning, 1 end',
      depths,
      [0, 0.25, 0.5, 0.75, 1],
    )
    .option(
      '--samples <n>',
      'documents per length, each with a needle at every depth',
      parsePositiveInt,
      8,
    )
    .option('--seed <n>', 'seed of the documents', parseNonNegativeInt, 42)
    .addOption(
      new Option('--text <file>', 'UTF-8 text to hide needles in').default(
        sampleFile,
        'a built-in sample',
      ),
    )
    .option(
      '--skip <characters>',
      'skip this many characters at the start of the text',
      parseNonNegativeInt,
      0,
    )
    .option('--base <dir>', 'the untrained model (default: the one that the checkpoint names)')
    .option('--no-base', 'skip the untrained model')
    .option('--compare <dir...>', 'also measure these checkpoints, each under its own contract')
    .addOption(
      new Option('--engine <name>', 'what runs the segments')
        .choices(['torch', 'onnx'])
        .default('torch'),
    )
    .option('--precision <name>', 'precision of that engine; see lockstep serve --help')
    .option('--no-chat', 'ask in plain text, not as a user of the chat template')
    .option('--html <file>', 'write the grid as an HTML page')
    .option('--card', 'store the grid in the checkpoint: recall.json, and a table in its README.md')
    .option('--out <dir>', 'save answers here; the same command resumes from them')
    .option('--device <name>', 'where torch computes: cpu, cuda', 'cpu')
    .option('--threads <n>', 'threads of the computation', parsePositiveInt)
    .option('--python <path>', 'Python interpreter')
    .addOption(noWeightsCheck())
    .option('--json', 'print one JSON object')
    .action((dir: string, options: RecallOptions) => recall(dir, options));
}

async function recall(dir: string, options: RecallOptions): Promise<void> {
  const cancel = cancellation();
  const bar = stageBar({ width: 36 });
  let subjects: EvaluatedCheckpoints | undefined;
  let folder: EvalFolder | undefined;
  try {
    const where = path.resolve(dir);
    checkHtml(options.html, 'LS_RECALL_HTML');
    // First: nothing is made beside a checkpoint that is not there.
    await readContract(where, { weights: 'ignored' });
    await checkPlaces(where, options);
    const { signal } = cancel;
    const { python, threads, device } = options;
    subjects = await openSubjects(where, options.base);
    const { contract } = subjects.files;
    const others = await openCompared(options.compare ?? [], contract);
    const rows: RecallRow[] = [
      ...rowsOf(subjects.all, ['segmented', 'full'], options.engine, options.precision ?? null),
      ...comparedRows(others, options.engine, options.precision ?? null),
    ];
    const engine = rowEngineOptions(options, Math.max(...options.lengths), signal, bar);
    await checkEngines(rows, engine);
    const asked: RecallAsked = {
      ...{ lengths: options.lengths, depths: options.depths, samples: options.samples },
      ...{ seed: options.seed, text: path.resolve(options.text), skip: options.skip },
      wrap: options.chat
        ? await chatWrapOrPlain(await loadTokenizer(where), 'Give --no-chat: plain text is asked.')
        : [...plainWrap],
    };
    const about = {
      dir: where,
      base: subjects.base,
      digest: contract.digest,
      trained: contract.trained,
      beside: others.map(({ name, dir, digest }) => ({ name, dir, digest })),
    };
    folder = await openFolder(options.out, {
      suite: 'recall',
      ...{ ...about, weights: await weightsOf(subjects) },
      ...{ engine: options.engine, precision: options.precision ?? null, device, asked },
    });
    const measured = await runRecall({
      ...{ asked, rows, engine, python, signal, device, contract },
      ...{ folder: folder.dir, dir: where, threads: threads ?? null, onProgress: bar.update },
    });
    const result = { ...about, ...measured };
    bar.stop();
    if (options.html !== undefined) {
      await writePage(options.html, recallHtml(path.basename(where), result, contract));
    }
    if (options.card) await storeRecall(where, result);
    process.stdout.write(
      options.json ? `${JSON.stringify(result)}\n` : recallTable(result, process.stdout),
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

/** Something that cannot be written is found before anything is measured. */
async function checkPlaces(dir: string, { html, card }: RecallOptions): Promise<void> {
  for (const file of [html, card ? path.join(dir, recallFile) : undefined]) {
    if (file === undefined) continue;
    await checkWritable(path.resolve(file)).catch((cause) => {
      throw notWritten(
        file,
        cause,
        'Name a file that you can write to with --html, and leave out --card.',
      );
    });
  }
}

async function writePage(html: string, page: string): Promise<void> {
  const file = path.resolve(html);
  await replaceFile(file, page).catch((cause) => {
    throw notWritten(file, cause, 'Name a file that you can write to with --html.');
  });
}

/** Comma-separated numbers from 0 to 1, each once, ascending. */
function depths(text: string): number[] {
  const list = names(text).map((one) => (one === '' ? Number.NaN : Number(one)));
  if (list.every((x) => x >= 0 && x <= 1)) return [...new Set(list)].sort((a, b) => a - b);
  throw new InvalidArgumentError('expected numbers from 0 to 1, comma-separated.');
}
