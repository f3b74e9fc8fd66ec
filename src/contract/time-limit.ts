// Users' code that runs in this process, once: it may take its time, not forever.
import vm from 'node:vm';

/** Thrown by `withinTime`. */
export class TimeLimitError extends Error {
  override readonly name = 'TimeLimitError';
}

/** How long a config, or a policy's `prepare`, may take: minutes of work are no mistake, hours are. */
export const userCodeLimit = 120_000;

/**
 * Call a synchronous function and interrupt it after `milliseconds`, even inside an endless loop.
 *
 * @throws TimeLimitError, or what the function throws
 */
export function withinTime<T>(run: () => T, milliseconds: number): T {
  // The limit of a script holds for all that it calls, in whatever realm that was made.
  const context = vm.createContext({ run });
  try {
    return vm.runInContext('run()', context, { timeout: milliseconds }) as T;
  } catch (error) {
    if ((error as NodeJS.ErrnoException | undefined)?.code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') {
      throw error;
    }
    throw new TimeLimitError(`no end after ${milliseconds / 1000} s`);
  }
}
