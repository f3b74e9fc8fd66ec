// lockstep report: what a checkpoint can do, measured and drawn, as one file.
import path from 'node:path';
import { Command, Option } from 'commander';
import { runJob } from '../../bridge/index.ts';
import { readContract } from '../../checkpoint/index.ts';
import { replaceFile } from '../../checkpoint/write.ts';
import { sampleFile } from '../../engines/verify/sample.ts';
import { LockstepError } from '../../errors.ts';
import { systemProblem } from '../../system-error.ts';
import { readRecall } from '../recall/recall-file.ts';
import { parseIntegerIn, parseNonNegativeInt, parsePositiveInt } from '../shared/option-values.ts';
import { asLockstepError, cancellation, paint, progress } from '../shared/output.ts';
import { noWeightsCheck } from '../shared/weights-option.ts';
import { checkWritable } from '../shared/writable.ts';
import { measuredWays, type ReportData } from './data.ts';
import { reportHtml } from './html.ts';
import { reportMarkdown } from './markdown.ts';
import type { Section } from './section.ts';
import { sections } from './sections.ts';

interface ReportOptions {
  out?: string;
  base?: string;
  text: string;
  skip: number;
  tokens?: number;
  recall?: string;
  threads?: number;
  device: string;
  python?: string;
  json?: true;
}

export function reportCommand(): Command {
  return new Command('report')
    .description('write a report of a checkpoint: perplexity, cost, retrieval, training')
    .argument('<dir>', 'checkpoint folder with a contract')
    .option('--out <file>', 'report to write: .html or .md (default: report.html in the folder)')
    .option('--base <dir>', 'the untrained model (default: the one that the checkpoint names)')
    .addOption(
      new Option('--text <file>', 'UTF-8 text to measure on').default(
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
    .option(
      '--tokens <n>',
      'maximum length (default: 8 training sequences, at most 8,192 or one sequence)',
      parseIntegerIn(16),
    )
    .option(
      '--recall <file>',
      'output of lockstep recall --json (default: recall.json in the folder, from recall --card)',
    )
    .option('--threads <n>', 'threads of the computation', parsePositiveInt)
    .option('--device <name>', 'where to compute: cpu, cuda', 'cpu')
    .option('--python <path>', 'Python interpreter')
    .addOption(noWeightsCheck())
    .option('--json', 'print what was measured as one JSON object')
    .action(runReport);
}

async function runReport(dir: string, options: ReportOptions): Promise<void> {
  const folder = path.resolve(dir);
  const out = path.resolve(options.out ?? path.join(folder, 'report.html'));
  const kind = path.extname(out).toLowerCase();
  if (kind !== '.html' && kind !== '.md') {
    throw new LockstepError('LS_REPORT_OUT', `expected --out to name an .html or .md, got ${out}`, {
      fix: 'Name a file such as report.html.',
      field: 'out',
    });
  }
  // First: nothing is made beside a checkpoint that is not there.
  const { contract } = await readContract(folder, { weights: 'ignored' });
  const recall = await readRecall(folder, contract.digest, options.recall);
  await checkWritable(out).catch((cause) => {
    throw notWritten(out, cause);
  });
  const data = { ...(await measure(folder, options)), recall };
  const parts = sections(data);
  if (kind === '.html') await write(out, reportHtml(data, parts));
  else await writeMarkdown(out, data, parts);
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ ...data, report: out })}\n`);
    return;
  }
  const { bold, dim } = paint(process.stdout);
  const most = data.lengths.at(-1) as number;
  const rows = measuredWays(data).map(
    ({ label, way }) => `${label.padEnd(28)}${way.perplexity[most]?.toFixed(2).padStart(10) ?? ''}`,
  );
  process.stdout.write(
    `${dim(`perplexity over ${most} tokens`)}\n${rows.join('\n')}\n${bold(out)}\n`,
  );
}

async function measure(
  folder: string,
  options: ReportOptions,
): Promise<Omit<ReportData, 'recall'>> {
  const cancel = cancellation();
  let bar: ReturnType<typeof progress> | undefined;
  try {
    const { event: _, ...result } = await runJob({
      module: 'lockstep.evaluation.report',
      python: options.python,
      signal: cancel.signal,
      job: {
        dir: folder,
        base: options.base === undefined ? null : path.resolve(options.base),
        text: path.resolve(options.text),
        skip: options.skip,
        tokens: options.tokens ?? null,
        threads: options.threads ?? null,
        device: options.device,
      },
      onEvent: (event) => {
        const total = Number(event['total']);
        bar ??= progress({ label: 'report', total });
        bar.update(Number(event['done']), String(event['stage']));
      },
    });
    const data = { name: path.basename(folder), ...result } as unknown as Omit<
      ReportData,
      'recall'
    >;
    return { ...data, text: { ...data.text, file: path.basename(options.text) } };
  } catch (error) {
    throw asLockstepError(cancel.reason(error));
  } finally {
    bar?.stop();
    cancel.stop();
  }
}

async function writeMarkdown(out: string, data: ReportData, parts: Section[]): Promise<void> {
  const picture = (name: string): string => `${path.basename(out, '.md')}-${name}.svg`;
  for (const { name, svg } of parts.flatMap(({ figures }) => figures)) {
    await write(path.join(path.dirname(out), picture(name)), svg);
  }
  await write(out, reportMarkdown(data, parts, picture));
}

/** An existing report stays until the new one is complete. */
async function write(file: string, text: string): Promise<void> {
  try {
    await replaceFile(file, text);
  } catch (cause) {
    throw notWritten(file, cause);
  }
}

function notWritten(file: string, cause: unknown): LockstepError {
  return new LockstepError(
    'LS_REPORT_WRITE',
    `expected to write ${file}, got ${systemProblem(cause)}`,
    {
      fix: 'Name a file in a folder that you can write to with --out.',
      field: 'out',
      cause,
    },
  );
}
