// lockstep profile: which KV heads should look back, and in which layers; a file for the config.
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { Command, Option } from 'commander';
import { type JobEvent, runJob } from '../../bridge/index.ts';
import { readModel } from '../../contract/model.ts';
import { LockstepError } from '../../errors.ts';
import {
  parseNonNegativeInt,
  parseNonNegativeNumber,
  parsePositiveInt,
} from '../shared/option-values.ts';
import { asLockstepError, cancellation, paint, progress } from '../shared/output.ts';
import { checkOut, type HeadsFile, headsText, methods, writeWhole } from './heads-file.ts';
import { headsSvg } from './heads-svg.ts';
import { checkEffect, type Measure, measureTask, type ProfileOptions } from './task.ts';

export function profileCommand(): Command {
  return new Command('profile')
    .description(
      'choose which heads retrieve, and in which layers; writes them to a file for the config',
    )
    .argument('<model>', 'folder of the Hugging Face checkpoint')
    .addOption(
      new Option(
        '--method <name>',
        'recall, gates, mixed (both) and mass measure; first and even are rules',
      )
        .choices(methods)
        .default('gates'),
    )
    .requiredOption(
      '--heads <n>',
      'how many KV heads become long, all layers together',
      parsePositiveInt,
    )
    .option(
      '--layers <n>',
      'in how many layers (default: those of the best heads)',
      parsePositiveInt,
    )
    .option('--data <patterns...>', 'texts: files and globs (default: data.train of the config)')
    .option('--config <file>', 'config with the segments (its heads are ignored)')
    .option('--segment <n>', 'without a config: S, a cut every n tokens', parsePositiveInt, 512)
    .option('--carry <n>', 'without a config: M', parseNonNegativeInt, 128)
    .option('--sinks <n>', 'without a config: A', parseNonNegativeInt, 4)
    .option('--retrieval <n>', 'R, rows that a long head retrieves', parsePositiveInt, 512)
    .addOption(
      new Option('--recipe <name>', 'without a config: how rows are chosen')
        .choices(['anchors', 'topk', 'blocks'])
        .default('anchors'),
    )
    .option(
      '--length <n>',
      'tokens of a sequence (default: four segments; recall: 1,024)',
      parsePositiveInt,
    )
    .option('--sequences <n>', 'mass: number of sequences', parsePositiveInt, 16)
    .option('--needles <n>', 'recall, mixed: needles to hide and ask for', parsePositiveInt, 24)
    .option(
      '--steps <n>',
      'gates, mixed: optimizer steps, one sequence each',
      parsePositiveInt,
      100,
    )
    .option(
      '--penalty <x>',
      'gates, mixed: weight of the mean gate in the loss',
      parseNonNegativeNumber,
      0.05,
    )
    .option('--seed <n>', 'seed of the sequences', parseNonNegativeInt, 0)
    .option('--out <file>', 'file to write', 'heads.json')
    .option('--plot <file>', 'picture of it, .svg (default: next to --out)')
    .option('--device <name>', 'where to compute: cpu, cuda', 'cpu')
    .option('--threads <n>', 'threads of the computation', parsePositiveInt)
    .option('--python <path>', 'Python interpreter')
    .option('--json', 'print events, then the file, one JSON object per line')
    .action(runProfile);
}

async function runProfile(model: string, options: ProfileOptions, command: Command): Promise<void> {
  const given = (name: string): boolean => command.getOptionValueSource(name) === 'cli';
  checkEffect(options, given);
  const out = path.resolve(options.out);
  const plot = plotFile(options);
  const modelDir = path.resolve(model);
  const { config } = await readModel(modelDir);
  await checkOut(out);
  const cancel = cancellation();
  const bar = watch(options);
  let measure: Measure | undefined;
  try {
    if (options.method !== 'first' && options.method !== 'even') {
      const context = Number(config['max_position_embeddings'] ?? Number.POSITIVE_INFINITY);
      measure = await measureTask(modelDir, context, options, given('retrieval'));
    }
    const { event: _, ...result } = await runJob({
      module: 'lockstep.evaluation.profile',
      python: options.python,
      signal: cancel.signal,
      job: {
        model: modelDir,
        method: options.method,
        heads: options.heads,
        layers: options.layers ?? null,
        measure: measure?.task ?? null,
      },
      onEvent: bar.event,
    });
    const file = { kind: 'lockstep heads', ...result } as unknown as HeadsFile;
    await writeWhole(out, headsText(file));
    await writeWhole(plot, headsSvg(file));
    // What the job kept of its steps (python/lockstep/evaluation/profile/partial.py).
    await rm(path.join(path.dirname(out), `.${path.basename(out)}.partial`), { force: true });
    bar.stop();
    process.stdout.write(
      options.json
        ? `${JSON.stringify({ out, plot, ...file })}\n`
        : report(file, options.out, plot),
    );
  } catch (error) {
    if ((error as LockstepError).code !== 'LS_JOB_CANCELLED') throw asLockstepError(error);
    throw new LockstepError('LS_CANCELLED', 'cancelled; nothing that was measured is lost.', {
      fix: 'Run the same command again to resume.',
    });
  } finally {
    bar.stop();
    cancel.stop();
    if (measure !== undefined) await rm(measure.staged, { recursive: true, force: true });
  }
}

function plotFile(options: ProfileOptions): string {
  const file = options.plot ?? `${options.out.replace(/\.json$/i, '')}.svg`;
  if (path.extname(file).toLowerCase() === '.svg') return path.resolve(file);
  throw new LockstepError('LS_PROFILE_PLOT', `expected --plot to name an .svg, got ${file}`, {
    fix: 'Name a file that ends in .svg.',
  });
}

/** A bar, or one JSON object for each event. */
function watch(options: ProfileOptions): { event: (event: JobEvent) => void; stop: () => void } {
  if (options.json) {
    return { event: (e) => process.stdout.write(`${JSON.stringify(e)}\n`), stop: () => {} };
  }
  const { method, steps, sequences, needles } = options;
  const total = { gates: steps, mass: sequences, recall: needles, mixed: steps + needles };
  const bar = progress({ label: 'profile', total: total[method as keyof typeof total] ?? 0 });
  return {
    event: ({ event, stage, done, error, gate, message }) => {
      if (event === 'warning') process.stderr.write(`warning: ${message}\n`);
      if (event !== 'progress') return;
      const note =
        error === undefined
          ? String(stage)
          : `error ${Number(error).toFixed(4)}, mean gate ${Number(gate).toFixed(3)}`;
      const before = method === 'mixed' && stage === 'gates' ? needles : 0;
      bar.update(before + Number(done), note);
    },
    stop: () => bar.stop(),
  };
}

function report(file: HeadsFile, out: string, plot: string): string {
  const { bold, dim } = paint(process.stdout);
  const lines = file.retrieval.layers.map((layer) => {
    const heads = file.heads.long[layer] ?? [];
    const scores = file.scores?.[layer];
    const shown = heads.map((head) =>
      scores === undefined ? `${head}` : `${head} ${dim((scores[head] ?? 0).toFixed(3))}`,
    );
    return `  layer ${String(layer).padStart(3)}  heads ${shown.join('  ')}`;
  });
  const { recall } = file;
  const said =
    recall === undefined
      ? ''
      : `\nfull attention recalled ${recall.recalled} of ${recall.needles} needles of ${file.settings?.['length']} tokens`;
  const name = path.basename(out, '.json').replace(/\W/g, '_');
  return `${bold(out)}  method ${file.method}, picture ${path.relative(process.cwd(), plot)}${said}
${lines.join('\n')}
in lockstep.config.ts:
  import ${name} from './${path.basename(out)}' with { type: 'json' };
  heads: ${name}.heads, retrieval: { size: …, ...${name}.retrieval },
`;
}
