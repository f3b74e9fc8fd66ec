// What a command does when nobody takes its output any more: `lockstep plan ... | head`, a full disk.
import { LockstepError } from '../../errors.ts';
import { systemProblem } from '../../system-error.ts';
import { exitCodes, printError, printWarning } from './output.ts';

/** Commands that do nothing but print. For them a reader who has enough is the end, and no failure. */
const printers: readonly (string | undefined)[] = ['plan', 'completion', 'doctor', 'keys', 'help'];

/**
 * Say what happens on an error of stdout: who prints ends; who trains, measures or serves goes on
 * without the view, says so once, and tidies up at its end.
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
    printWarning({ code: 'LS_OUTPUT_LOST', message: `${got}; the command goes on without it` });
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
  return new LockstepError('LS_ENDED', 'expected the command to end by itself, got an early exit', {
    fix: 'Look for process.exit in the config and in what it imports; where there is none, this is a fault of Lockstep: please report it.',
  });
}
