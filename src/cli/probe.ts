// lockstep probe: record what the trainer's forward says of a short sequence; engines must repeat it.
import { Command } from 'commander';
import { asLockstepError, cancellation } from './shared/output.ts';
import { recordedLine, recordProbe } from './shared/record-probe.ts';

interface ProbeOptions {
  python?: string;
  json?: true;
}

export function probeCommand(): Command {
  return new Command('probe')
    .description('record the probe that every engine must pass before it serves the checkpoint')
    .argument('<dir>', 'checkpoint folder with a contract')
    .option('--python <path>', 'Python interpreter')
    .option('--json', 'print one JSON object')
    .action(runProbeCommand);
}

async function runProbeCommand(dir: string, options: ProbeOptions): Promise<void> {
  const cancel = cancellation();
  try {
    const recorded = await recordProbe(dir, { python: options.python, signal: cancel.signal });
    process.stdout.write(
      options.json ? `${JSON.stringify(recorded)}\n` : `${recordedLine(recorded)}\n`,
    );
  } catch (error) {
    throw asLockstepError(cancel.reason(error));
  } finally {
    cancel.stop();
  }
}
