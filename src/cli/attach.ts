// lockstep attach: put a contract on a checkpoint without training it, or renew the one it has.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { attach, contractFor, examine, refuseInside, upgrade } from '../checkpoint/index.ts';
import { defaultConfigFile, loadConfig } from '../config/index.ts';
import type { Contract } from '../contract/index.ts';
import type { LockstepError } from '../errors.ts';
import { shellWord } from '../shell-word.ts';
import { needs } from './shared/needs.ts';
import { nextSteps } from './shared/next-steps.ts';
import { asLockstepError, cancellation, paint, printWarning } from './shared/output.ts';
import { type Recorded, recordedLine, recordProbe } from './shared/record-probe.ts';
import { untrainedLine } from './shared/untrained.ts';

interface AttachCommandOptions {
  config: string;
  out?: string;
  force?: true;
  discardTraining?: true;
  upgrade?: true;
  check?: true;
  /** false: `--no-probe`. */
  probe: boolean;
  python?: string;
  json?: true;
}

export function attachCommand(): Command {
  return new Command('attach')
    .description('add a contract to a Llama, Qwen or Mistral checkpoint, without training it')
    .argument('<model>', 'folder of the Hugging Face checkpoint')
    .option('--config <file>', 'config with the segments', defaultConfigFile)
    .option('--out <dir>', 'folder to create; weights are linked, not copied')
    .option('--force', 'replace an existing checkpoint')
    .option('--discard-training', 'with --force: also replace a trained checkpoint')
    .option(
      '--upgrade',
      'renew the contract of a checkpoint from an earlier version of Lockstep, in place or to --out',
    )
    .option('--check', 'check the model and the config; write nothing')
    .option('--no-probe', 'do not record the probe that engines run before they serve')
    .option('--python <path>', 'Python interpreter that records the probe')
    .option('--json', 'print one JSON object')
    .action(runAttach);
}

async function runAttach(
  model: string,
  options: AttachCommandOptions,
  command: Command,
): Promise<void> {
  checkOptions(options);
  const given = command.getOptionValueSource('config') !== 'default';
  if (options.check) return runCheck(model, options, given);
  if (options.upgrade) return runUpgrade(model, options, given);
  if (options.out === undefined) {
    return command.error("error: required option '--out <dir>' not specified");
  }
  const config = await loadConfig(options.config);
  const { out } = options;
  await refuseInside(model, out);
  const force = options.force === true;
  const discardTraining = options.discardTraining === true;
  const { contract } = await attach({
    config,
    modelDir: model,
    out,
    force,
    discardTraining,
    warn: printWarning,
  });
  const probe = await probeOf(out, options);
  if (options.json) return print({ out: path.resolve(out), ...facts(contract), probe });
  const { digest, policy } = contract;
  const colors = paint(process.stdout);
  const { bold, dim } = colors;
  process.stdout.write(
    `${bold(out)}  ${policy.name}  ${dim(digest)}\n` +
      `${untrainedLine(contract, colors)}\n` +
      `${probeNote(probe, out)}\n${nextSteps(out)}`,
  );
}

/** What `attach` checks; of a config only where there is one. */
async function runCheck(dir: string, options: AttachCommandOptions, given: boolean): Promise<void> {
  const examined = await examine(path.resolve(dir));
  const { model, weights, tokenizer } = examined;
  const config = given || existsSync(options.config) ? await loadConfig(options.config) : null;
  const made = config === null ? null : await contractFor(examined, config, printWarning);
  const { family, layers, queryHeads, kvHeads, vocabulary } = model;
  const chat = tokenizer.chatTemplate !== null;
  const digest = made?.contract.digest ?? null;
  if (options.json) {
    return print({ fits: true, family, layers, queryHeads, kvHeads, vocabulary, chat, digest });
  }
  const { bold, dim, green } = paint(process.stdout);
  const files = weights.files.length === 1 ? '1 file' : `${weights.files.length} files`;
  process.stdout.write(
    `${bold(dir)}  ${green('fits')}: ${family}, ${layers} layers, ${queryHeads} query heads, ${kvHeads} KV heads, ` +
      `${vocabulary} tokens, weights in ${files}, ${chat ? 'a' : 'no'} chat template\n` +
      (made === null
        ? `no config to check: lockstep init writes one\n`
        : `${bold(options.config)}  ${green('fits it')}: ${made.contract.policy.name}  ${dim(made.contract.digest)}\n`),
  );
}

/** @throws LS_USAGE for options that would change nothing */
function checkOptions(options: AttachCommandOptions): void {
  const { check, upgrade, force, discardTraining, probe, python } = options;
  if (check) {
    const { out } = options;
    const given = { out, force, 'discard-training': discardTraining, upgrade, python };
    for (const [name, value] of Object.entries(given)) {
      if (value !== undefined) throw needs(name, 'no --check', 'both');
    }
    if (!probe) throw needs('no-probe', 'no --check', 'both');
  } else if (upgrade) {
    if (force) throw needs('force', 'no --upgrade', 'both');
    if (discardTraining) throw needs('discard-training', 'no --upgrade', 'both');
  } else if (discardTraining && !force) throw needs('discard-training', '--force', 'none');
  if (!probe && python !== undefined) throw needs('python', 'a probe to record', '--no-probe');
}

async function runUpgrade(
  dir: string,
  options: AttachCommandOptions,
  given: boolean,
): Promise<void> {
  const { files, before, checked, exports } = await upgrade({
    dir,
    ...(options.out === undefined ? {} : { out: options.out }),
    ...(given ? { policy: (await loadConfig(options.config)).policy } : {}),
  });
  const { contract } = files;
  const out = options.out ?? dir;
  const probe = await probeOf(out, options);
  if (options.json) {
    return print({ out: path.resolve(out), before, ...facts(contract), exports, probe });
  }
  const { bold, dim } = paint(process.stdout);
  const again =
    exports.length === 0
      ? ''
      : `exports were left out (${exports.join(', ')}): export again: lockstep export ${shellWord(out)}\n`;
  process.stdout.write(
    `${bold(out)}  ${contract.policy.name}\n` +
      `digest ${dim(before)}\n    -> ${dim(contract.digest)}\n` +
      `the same tables, and the same cuts of ${checked} stored sequences\n` +
      `${again}${probeNote(probe, out)}\n${nextSteps(out)}`,
  );
}

function facts({ digest, trained }: Contract): object {
  return { digest, trained };
}

function print(result: object): void {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

type Probed = Recorded | { error: LockstepError } | null;

/** The probe, where Python is there to record it; a checkpoint without one can be served too. */
async function probeOf(out: string, options: AttachCommandOptions): Promise<Probed> {
  if (!options.probe) return null;
  // Only where somebody waits for it.
  if (process.stderr.isTTY) {
    process.stderr.write(
      'recording the probe: the model runs once, for up to some minutes (--no-probe skips it)\n',
    );
  }
  const cancel = cancellation();
  try {
    return await recordProbe(out, { python: options.python, signal: cancel.signal });
  } catch (error) {
    if (cancel.signal.aborted) throw cancel.signal.reason;
    return { error: asLockstepError(error) };
  } finally {
    cancel.stop();
  }
}

function probeNote(probe: Probed, out: string): string {
  if (probe === null) return 'no probe: --no-probe';
  if ('path' in probe) return recordedLine(probe);
  return `no probe: ${probe.error.message}\n  lockstep probe ${shellWord(out)} records it later`;
}
