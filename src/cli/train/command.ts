// lockstep train: makes the contract, starts the trainer, shows what it does.
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { Command, Option } from 'commander';
import { runJob } from '../../bridge/index.ts';
import { adoptContract, attach, type ContractFiles } from '../../checkpoint/index.ts';
import {
  type Config,
  defaultConfigFile,
  loadConfig,
  type TrainingSettings,
} from '../../config/index.ts';
import { readModel } from '../../contract/model.ts';
import { LockstepError } from '../../errors.ts';
import { nextSteps } from '../shared/next-steps.ts';
import { parseMinutes, parsePositiveInt, seed } from '../shared/option-values.ts';
import { cancellation, exitCodes, printWarning } from '../shared/output.ts';
import type { TrainEvent, TrainResult } from './events.ts';
import { checkJobFile, writeJobFile } from './job-file.ts';
import { lossPlot } from './plot.ts';
import { stagingFolder } from './staging.ts';
import { trainView } from './view.ts';

interface TrainOptions {
  config: string;
  out?: string;
  minutes?: number;
  steps?: number;
  seed?: number;
  saveEvery?: number;
  keep?: number;
  resume?: true;
  overwrite?: true;
  plot?: string;
  logs?: string;
  nproc?: number;
  shard?: true;
  job?: string;
  python?: string;
  device: string;
  attention: 'segmented' | 'full';
  json?: true;
}

export function trainCommand(): Command {
  return new Command('train')
    .description('train a checkpoint in segments, under the contract that the config defines')
    .option('--config <file>', 'the config', defaultConfigFile)
    .option('--out <dir>', 'checkpoint to write (default: `out` of the config)')
    .addOption(
      new Option('--steps <n>', 'train this many optimizer steps')
        .argParser(parsePositiveInt)
        .conflicts('minutes'),
    )
    .option('--minutes <x>', 'train this long', parseMinutes)
    .option('--seed <n>', 'seed of the sequences and their order', seed)
    .option('--save-every <n>', 'write a checkpoint every n steps', parsePositiveInt)
    .option('--keep <n>', 'how many checkpoints to keep, the newest included', parsePositiveInt)
    .addOption(new Option('--resume', 'resume from the checkpoint in `out`').conflicts('overwrite'))
    .option('--overwrite', 'replace an existing checkpoint and start over')
    .option('--plot <file>', 'keep a loss plot up to date: .svg or .png')
    .option('--logs <dir>', 'also log to this folder: train.jsonl and TensorBoard event files')
    .option('--nproc <n>', 'train in this many processes of this machine', parsePositiveInt)
    .option('--shard', 'shard weights, gradients and optimizer state over the processes (FSDP)')
    .addOption(
      new Option(
        '--job <file>',
        'do not train: write the .json that torchrun needs to start the processes',
      ).conflicts(['json', 'plot', 'python']),
    )
    .option('--device <name>', 'where to compute: cpu, cuda', 'cpu')
    .option('--python <path>', 'Python interpreter')
    .addOption(
      new Option('--attention <name>', 'full: ordinary full-attention training, as a control')
        .choices(['segmented', 'full'])
        .default('segmented'),
    )
    .option('--json', 'print one JSON object per line; the last one is the result')
    .action(runTrain);
}

/** A pace that lets a slow step and a large checkpoint finish after Ctrl-C. */
const graceMs = 15 * 60_000;

async function runTrain(options: TrainOptions): Promise<void> {
  checkProcesses(options);
  if (options.job !== undefined) await checkJob(options.job, options);
  const config = await loadConfig(options.config);
  const training = settings(config, options);
  const out = outFolder(config, options);
  if (options.job !== undefined) {
    const start = { config, modelDir: config.model, warn: printWarning };
    const job = jobOf(config, out, training, options);
    const command = await writeJobFile(options.job, job, start, options.nproc ?? 1);
    process.stdout.write(`${command}\n`);
    return;
  }
  await readModel(config.model);
  const view = trainView(process.stdout, options.json === true);
  const plot = await lossPlot(options.plot, path.basename(out), view.event);
  const cancel = cancellation();
  const staged = await stagingFolder(out);
  let result: TrainResult | undefined;
  try {
    const made = await attach({
      config,
      modelDir: config.model,
      out: staged,
      force: true,
      warn: (warning) => view.event({ event: 'warning', step: 0, ...warning }),
    });
    if (options.resume) await underOwnContract(staged, made, out);
    result = (await runJob({
      module: 'lockstep.train',
      job: { ...jobOf(config, out, training, options), model: staged, plot: plot.png ?? null },
      python: options.python,
      signal: cancel.signal,
      graceMs,
      onEvent: (event) => {
        view.event(event as TrainEvent);
        plot.event(event as TrainEvent);
      },
    })) as TrainResult;
  } catch (error) {
    if ((error as LockstepError).code !== 'LS_JOB_CANCELLED') throw error;
    throw new LockstepError('LS_CANCELLED', 'cancelled before the first step; nothing was saved.', {
      fix: 'Run the same command again to start.',
    });
  } finally {
    cancel.stop();
    plot.end();
    view.end(result);
    // What stays of it, the next training removes.
    await rm(staged, { recursive: true, force: true }).catch(() => {});
  }
  if (result.stopped) process.exitCode = exitCodes.cancelled;
  else if (!options.json && options.attention === 'segmented') process.stdout.write(nextSteps(out));
}

/** What is missing or damaged in `out` is Python's to judge: an older checkpoint may take its place. */
async function underOwnContract(staged: string, made: ContractFiles, out: string): Promise<void> {
  try {
    await adoptContract(staged, made, out);
  } catch (error) {
    if (!(error instanceof LockstepError)) throw error;
  }
}

/** The job for `python -m lockstep.train`, without the model that it starts from. */
function jobOf(
  config: Config,
  out: string,
  training: Record<string, unknown>,
  options: TrainOptions,
): Record<string, unknown> {
  return {
    base: config.model,
    out,
    root: config.root,
    attention: options.attention,
    resume: options.resume === true,
    overwrite: options.overwrite === true,
    device: options.device,
    plot: null,
    logs: options.logs === undefined ? null : path.resolve(options.logs),
    processes: options.nproc ?? 1,
    shard: options.shard === true,
    training,
  };
}

/** @throws LS_TRAIN_PROCESSES for --shard without processes to share over; a job may be for several machines */
function checkProcesses({ shard, nproc, job }: TrainOptions): void {
  if (shard !== true || (nproc ?? 1) > 1 || (job !== undefined && nproc !== undefined)) return;
  throw new LockstepError('LS_TRAIN_PROCESSES', '--shard needs --nproc of at least 2, got 1', {
    fix: 'Give --nproc N, or leave out --shard.',
    field: 'shard',
  });
}

/** @throws LS_TRAIN_JOB, LS_USAGE for a device that no process of the job could have */
async function checkJob(file: string, { device }: TrainOptions): Promise<void> {
  await checkJobFile(file);
  if (/^(cpu|cuda|mps|xpu)(:\d+)?$/.test(device)) return;
  throw new LockstepError('LS_USAGE', `expected --device cpu or cuda, got ${device}`, {
    fix: 'Name the device that the processes of the job compute on.',
    field: 'device',
  });
}

/** The job's `training`: the config's, with what the command line says instead. */
function settings(config: Config, options: TrainOptions): Record<string, unknown> {
  const given: TrainingSettings | undefined = config.training;
  if (given === undefined) {
    throw new LockstepError(
      'LS_CONFIG_INVALID',
      `expected \`training\` in ${options.config}, got none`,
      {
        fix: 'Add training: { steps: 100 } and data: { train: [...] }; docs/training.md lists the settings.',
        field: 'training',
      },
    );
  }
  const budget =
    options.steps !== undefined
      ? { steps: options.steps, minutes: null }
      : options.minutes !== undefined
        ? { steps: null, minutes: options.minutes }
        : { steps: given.steps ?? null, minutes: given.minutes ?? null };
  // --save-every replaces the config's rule; without any rule, every 10 minutes.
  const saveEvery = options.saveEvery ?? given.saveEvery ?? null;
  const saveMinutes = options.saveEvery === undefined ? given.saveMinutes : undefined;
  return {
    ...given,
    ...budget,
    saveEvery,
    saveMinutes: saveMinutes ?? (saveEvery === null ? 10 : null),
    keep: options.keep ?? given.keep ?? null,
    lora: given.lora ?? null,
    dpo: given.dpo ?? null,
    validateEvery: given.validateEvery ?? null,
    heldOut: given.heldOut ?? null,
    seed: options.seed ?? given.seed,
  };
}

function outFolder(config: Config, options: TrainOptions): string {
  if (options.out !== undefined) return path.resolve(options.out);
  if (config.out !== undefined) return config.out;
  throw new LockstepError('LS_CONFIG_INVALID', 'expected a folder for the checkpoint, got none', {
    fix: 'Name one with --out or with `out` in the config.',
    field: 'out',
  });
}
