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
import { parseMinutes, parsePositiveInt, port } from '../shared/option-values.ts';
import {
  askNeedles,
  type Checkpoints,
  exportAndVerify,
  HELD_OUT,
  QUICK,
  trainAndCompare,
  WHOLE,
} from './measuring.ts';
import { complete, startServer } from './serving.ts';
import { say, secondsSince, timedStages } from './timed-stages.ts';

interface QuickstartOptions {
  config: string;
  exit?: true;
  json?: true;
  minutes?: number;
  port: number;
  quick?: true;
  steps?: number;
}

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
  if (!existsSync(path.join(packageRoot, HELD_OUT))) {
    throw new LockstepError('LS_QUICKSTART_INPUTS', `expected the text ${HELD_OUT}, got no file.`, {
      fix: 'The quickstart is part of a clone: run npm run setup there.',
    });
  }
  const checkpoints = await freeCheckpoints(options.config);
  const { trained } = checkpoints;
  const measured = options.quick ? QUICK : WHOLE;
  const abort = new AbortController();
  const cancel = (): void =>
    abort.abort(
      new LockstepError('LS_CANCELLED', 'the quickstart was cancelled.', {
        fix: 'Run npm start again; it repeats every stage.',
      }),
    );
  process.once('SIGINT', cancel);
  process.once('SIGTERM', cancel);

  const started = performance.now();
  const seconds: Record<string, number> = {};
  const run = timedStages(abort.signal, seconds);
  const { perplexity: lengths, verify: tokens } = measured;
  const perplexity = await trainAndCompare(run, checkpoints, lengths, budget(options));
  const recall = await askNeedles(run, trained, measured);
  const { rows, ok } = await exportAndVerify(run, trained, tokens);

  const server = await startServer(trained, options.exit ? 0 : options.port, abort.signal);
  try {
    const asked = performance.now();
    const completion = await complete(server.url, PROMPT, abort.signal);
    seconds['completion'] = secondsSince(asked);
    seconds['total'] = secondsSince(started);
    say(`\n${PROMPT}\n  … ${completion.trim()}\n`);
    const result = { checkpoint: trained, perplexity, recall, verify: rows, completion, seconds };
    if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
    if (!ok) throw disagreement(trained);
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

function disagreement(checkpoint: string): LockstepError {
  return new LockstepError(
    'LS_VERIFY_FAILED',
    'expected every engine to agree, got the table above.',
    {
      fix: `Run lockstep verify ${shellWord(checkpoint)} --json: firstDivergence is where they first differ. docs/verify.md#when-it-fails says what to do.`,
    },
  );
}

/** Where the config's checkpoints go. @throws LS_QUICKSTART_EXISTS */
async function freeCheckpoints(file: string): Promise<Checkpoints> {
  const config = await loadConfig(file);
  await readModel(config.model);
  const { model, out: trained } = config;
  const untrained = `${trained}-untrained`;
  const replace = path.resolve(file) === EXAMPLE;
  for (const folder of [trained, untrained]) await checkFree(folder, replace, file);
  return { config: file, model, untrained, trained, replace };
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
