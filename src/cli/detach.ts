// lockstep detach: a plain copy of a segmented checkpoint, to be run with full attention on purpose.
import path from 'node:path';
import { Command } from 'commander';
import { detach } from '../checkpoint/index.ts';
import { paint } from './shared/output.ts';

interface DetachCommandOptions {
  out: string;
  json?: true;
}

export function detachCommand(): Command {
  return new Command('detach')
    .description('write a plain checkpoint of the same weights, for full attention')
    .argument('<dir>', 'folder of a checkpoint with a contract')
    .requiredOption('--out <dir>', 'folder to create; weights are linked, not copied')
    .option('--json', 'print one JSON object')
    .action(runDetach);
}

async function runDetach(dir: string, options: DetachCommandOptions): Promise<void> {
  const { digest, trained } = await detach(dir, options.out);
  if (options.json) {
    const out = path.resolve(options.out);
    process.stdout.write(`${JSON.stringify({ out, digest, trained })}\n`);
    return;
  }
  const { bold, dim, yellow } = paint(process.stdout);
  const use =
    trained.steps > 0
      ? 'any Hugging Face program can run it, with full attention instead of the segments it was trained with'
      : 'any Hugging Face program can run it';
  process.stdout.write(
    `${bold(options.out)}  ${dim(`without the contract ${digest}`)}\n` +
      `${yellow('full attention')}: ${use}\n`,
  );
}
