// lockstep perplexity: how well a checkpoint predicts a text, run in one way or another.
import path from 'node:path';
import { Command, Option } from 'commander';
import { runJob } from '../bridge/index.ts';
import { sampleFile } from '../engines/verify/sample.ts';
import { lengths, namesOf, parseNonNegativeInt, parsePositiveInt } from './shared/option-values.ts';
import { asLockstepError, cancellation, paint, progress } from './shared/output.ts';
import { noWeightsCheck } from './shared/weights-option.ts';

interface PerplexityOptions {
  text: string;
  skip: number;
  tokens: number[];
  attention: string[];
  python?: string;
  threads?: number;
  json?: true;
}

const labels: Readonly<Record<string, string>> = {
  full: 'full attention',
  noSinks: 'segmented, no sinks',
  segmented: 'segmented',
};

export function perplexityCommand(): Command {
  return new Command('perplexity')
    .description('measure perplexity with full attention, segmented, and segmented without sinks')
    .argument('<dir>', 'checkpoint folder with a contract')
    .addOption(
      new Option('--text <file>', 'UTF-8 text to predict').default(sampleFile, 'a built-in sample'),
    )
    .option(
      '--skip <characters>',
      'skip this many characters at the start of the text',
      parseNonNegativeInt,
      0,
    )
    .option('--tokens <n,…>', 'lengths: the first n tokens of the text, for each n', lengths, [512])
    .option(
      '--attention <names>',
      'full, noSinks, segmented',
      namesOf(Object.keys(labels)),
      Object.keys(labels),
    )
    .option('--threads <n>', 'threads of the computation', parsePositiveInt)
    .option('--python <path>', 'Python interpreter')
    .addOption(noWeightsCheck())
    .option('--json', 'print one JSON object')
    .action(runPerplexity);
}

async function runPerplexity(dir: string, options: PerplexityOptions): Promise<void> {
  const cancel = cancellation();
  const bar = progress({
    label: 'perplexity',
    total: options.attention.length,
  });
  try {
    const { event: _, ...result } = await runJob({
      module: 'lockstep.evaluation.perplexity',
      python: options.python,
      signal: cancel.signal,
      job: {
        dir: path.resolve(dir),
        text: path.resolve(options.text),
        skip: options.skip,
        lengths: options.tokens,
        attention: options.attention,
        threads: options.threads ?? null,
      },
      onEvent: (event) => bar.update(Number(event['done']), String(event['stage'])),
    });
    bar.stop();
    process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : table(result, options));
  } catch (error) {
    throw asLockstepError(cancel.reason(error));
  } finally {
    bar.stop();
    cancel.stop();
  }
}

function table(result: Record<string, unknown>, options: PerplexityOptions): string {
  const { dim } = paint(process.stdout);
  const values = result['perplexity'] as Record<string, Record<string, number>>;
  const width = Math.max(...options.attention.map((name) => labels[name]?.length ?? 0));
  const cells = (parts: string[]): string => parts.map((part) => part.padStart(10)).join('');
  const head = `${'perplexity'.padEnd(width)}${cells(options.tokens.map((n) => `${n}`))}`;
  const rows = options.attention.map((name) => {
    const row = options.tokens.map((n) => values[n]?.[name]?.toFixed(2) ?? '');
    return `${labels[name]?.padEnd(width)}${cells(row)}`;
  });
  return `${[dim(`${head}  tokens`), ...rows].join('\n')}\n`;
}
