// What a command does when nothing reads its output any more: `lockstep plan ... | head`, a full disk.
import { LockstepError } from '../../errors.ts';
import { systemProblem } from '../../system-error.ts';
import { exitCodes, printError, printWarning } from './output.ts';

/** Commands that do nothing but print. When their reader stops reading, they end, and that is no failure. */
const printers: readonly (string | undefined)[] = ['plan', 'completion', 'doctor', 'keys', 'help'];

/**
 * Handle errors of stdout. A command that only prints ends. A command that trains, measures or serves
 * continues without printing, warns once, and cleans up at its end.
 *
 * @param command the name of the command; undefined: its help
 * @param leave called before the process ends on purpose
 */
export function watchOutput(command: string | undefined, leave: () => void): void {
  const prints = command === undefined || printers.includes(command);
  let lost = false;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    const enough = error.code === 'EPIPE';
    if (prints) {
      leave();
      process.exit(enough ? (process.exitCode ?? exitCodes.ok) : printError(notWritten(error)));
    }
    if (lost) return;
    lost = true;
    // A pipe that is closed was closed by somebody. A file that is full is not what was asked for.
    if (!enough) process.exitCode = exitCodes.failed;
    const got = enough ? 'stdout is closed' : notWritten(error).message;
    printWarning({
      code: 'LS_OUTPUT_LOST',
      message: `${got}; the command continues without printing`,
    });
  });
  // As in `lockstep train 2>&1 | head`: there is no one left to tell.
  process.stderr.on('error', () => {});
}

function notWritten(error: unknown): LockstepError {
  return new LockstepError(
    'LS_OUTPUT_LOST',
    `expected to write to stdout, got ${systemProblem(error)}`,
    { fix: 'Free disk space, or send the output to another place.', cause: error },
  );
}

/** LS_ENDED for a process that ends while its command still runs. */
export function endedEarly(): LockstepError {
  return new LockstepError('LS_ENDED', 'the process exited before the command finished', {
    fix: 'Look for process.exit in the config and in what it imports; where there is none, this is a fault of Lockstep: please report it.',
  });
}
