// lockstep attach: put a contract on a checkpoint without training it.
import path from 'node:path';
import { Command } from 'commander';
import { defaultConfigFile, loadConfig } from '../config/index.ts';
import { attach } from '../contract/index.ts';
import { paint } from './output.ts';

interface AttachCommandOptions {
  config: string;
  out: string;
  force?: true;
  json?: true;
}

export function attachCommand(): Command {
  return new Command('attach')
    .description('put a contract on a Llama, Qwen or Mistral checkpoint, without training it')
    .argument('<model>', 'folder of the Hugging Face checkpoint')
    .option('--config <file>', 'the config that says how to segment', defaultConfigFile)
    .requiredOption('--out <dir>', 'folder to make; weights are linked, not copied')
    .option('--force', 'replace a checkpoint that stands there')
    .option('--json', 'print one JSON object')
    .action(runAttach);
}

async function runAttach(model: string, options: AttachCommandOptions): Promise<void> {
  const config = await loadConfig(options.config);
  const { contract } = await attach({
    config,
    modelDir: model,
    out: options.out,
    force: options.force === true,
  });
  const { digest, policy, carry, trained } = contract;
  if (options.json) {
    process.stdout.write(
      `${JSON.stringify({ out: path.resolve(options.out), digest, trained })}\n`,
    );
    return;
  }
  const { bold, dim, yellow } = paint(process.stdout);
  const advice =
    carry.sinks > 0
      ? `usable at once thanks to its ${carry.sinks} sinks; training brings it closer to full attention`
      : 'without sinks it loses much: set carry.sinks, or train it';
  process.stdout.write(
    `${bold(options.out)}  ${policy.name}  ${dim(digest)}\n` +
      `${yellow('untrained')} under this contract: ${advice}\n` +
      `next: lockstep verify ${options.out}\n`,
  );
}
