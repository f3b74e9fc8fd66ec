// lockstep export: write the step graph for ONNX Runtime, in one precision or several.
import path from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { type JobEvent, runJob } from '../bridge/index.ts';
import { precisions } from '../engines/onnx.ts';
import { needs } from './shared/needs.ts';
import { namesOf } from './shared/option-values.ts';
import { asLockstepError, cancellation, paint, progress } from './shared/output.ts';
import { type Recorded, recordedLine } from './shared/record-probe.ts';

interface ExportOptions {
  precision: string[];
  /** By precision; `all` stands for each. */
  maxPerplexityRatio: Record<string, number>;
  text?: string;
  force?: true;
  python?: string;
  json?: true;
}

/** One exported graph, as the job reports it. */
interface Exported {
  precision: string;
  path: string;
  bytes: number;
  seconds: number;
  perplexity: number | null;
  ratio: number | null;
  forced: boolean;
}

export function exportCommand(): Command {
  return new Command('export')
    .description('write the step graph for ONNX Runtime into DIR/onnx: fp32, int8, int4')
    .argument('<dir>', 'checkpoint folder with a contract')
    .option(
      '--precision <names>',
      `${precisions.join(', ')}, several with commas, or all`,
      chosen,
      ['fp32'],
    )
    .option('--text <file>', 'UTF-8 text to measure int8 and int4 on (default: a built-in sample)')
    .addOption(
      new Option(
        '--max-perplexity-ratio <ratios>',
        'perplexity allowed, as a multiple of fp32: 1.1, or int8=1.05,int4=1.25',
      )
        .argParser(limits)
        .default({}, 'the limits of docs/onnx.md'),
    )
    .option('--force', 'keep a precision that exceeds --max-perplexity-ratio')
    .option('--python <path>', 'Python interpreter')
    .option('--json', 'print one JSON object')
    .action(runExport);
}

async function runExport(dir: string, options: ExportOptions): Promise<void> {
  checkEffect(options);
  const cancel = cancellation();
  const stages = 2 * options.precision.length;
  const bar = progress({ label: 'export', total: stages });
  let done = 0;
  const onEvent = (event: JobEvent): void => {
    if (event.event !== 'stage') return;
    bar.update(Math.min(done++, stages), `${event['stage']} ${event['precision']}`);
  };
  try {
    const { event: _, ...result } = await runJob({
      module: 'lockstep.export.job',
      python: options.python,
      signal: cancel.signal,
      job: {
        dir: path.resolve(dir),
        precisions: options.precision,
        maxPerplexityRatio: limitsOf(options),
        text: options.text === undefined ? null : path.resolve(options.text),
        force: options.force === true,
      },
      onEvent,
    });
    bar.stop();
    const text = options.json
      ? JSON.stringify(result)
      : `${table(result['precisions'] as Exported[])}${probeNote(result['probe'])}`;
    process.stdout.write(`${text}\n`);
  } catch (error) {
    throw asLockstepError(cancel.reason(error));
  } finally {
    bar.stop();
    cancel.stop();
  }
}

/** @throws LS_USAGE for options about precisions that are not exported: fp32 is not judged */
function checkEffect({ precision, text, force, maxPerplexityRatio }: ExportOptions): void {
  const got = `--precision ${precision.join(',')}`;
  const lossy = precision.some((name) => judged.includes(name));
  for (const [option, given] of [
    ['text', text !== undefined],
    ['max-perplexity-ratio', Object.keys(maxPerplexityRatio).length > 0],
    ['force', force === true],
  ] as const) {
    if (given && !lossy) throw needs(option, `--precision ${judged.join(' or ')}`, got);
  }
  const idle = Object.keys(maxPerplexityRatio).find(
    (name) => name !== 'all' && !precision.includes(name),
  );
  if (idle !== undefined) throw needs(`max-perplexity-ratio ${idle}=…`, `--precision ${idle}`, got);
}

function limitsOf({
  maxPerplexityRatio: { all, ...named },
}: ExportOptions): Record<string, number> {
  return all === undefined ? named : Object.fromEntries(judged.map((name) => [name, all]));
}

/** A line about the probe, where this export recorded one or could not. */
function probeNote(told: unknown): string {
  const probe = told as Partial<Recorded> & { error?: { message: string } };
  if (probe.error !== undefined) return `\nno probe: ${probe.error.message}`;
  return probe.tokens === undefined ? '' : `\n${recordedLine(probe as Recorded)}`;
}

function table(rows: readonly Exported[]): string {
  const { bold, dim, yellow } = paint(process.stdout);
  return rows
    .map((row) => {
      const size = `${(row.bytes / 2 ** 20).toFixed(1)} MiB`.padStart(12);
      const loss =
        row.ratio === null || row.perplexity === null
          ? ''
          : `  perplexity ${row.perplexity.toFixed(2)}, ${row.ratio.toFixed(3)} x fp32`;
      const forced = row.forced ? yellow('  exceeds the limit; kept because of --force') : '';
      return `${bold(row.precision)}${size}${loss}${forced}  ${dim(row.path)}`;
    })
    .join('\n');
}

function chosen(text: string): string[] {
  const list = namesOf([...precisions, 'all'])(text);
  return list.includes('all') ? [...precisions] : list;
}

/** What is measured against fp32. */
const judged: readonly string[] = precisions.filter((name) => name !== 'fp32');

function limits(text: string): Record<string, number> {
  const entries = text.includes('=')
    ? text.split(',').map((part) => part.split('=').map((word) => word.trim()))
    : [['all', text.trim()]];
  return Object.fromEntries(
    entries.map(([name = '', value = '']) => {
      const factor = Number(value);
      const known = judged.includes(name) || !text.includes('=');
      if (known && factor > 0 && Number.isFinite(factor)) {
        return [name, factor];
      }
      throw new InvalidArgumentError('expected a ratio such as 1.1, or int8=1.05,int4=1.25.');
    }),
  );
}
