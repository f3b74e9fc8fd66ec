// Users' code that runs in this process, once: it may take its time, not forever.
import vm from 'node:vm';
import { Worker } from 'node:worker_threads';

/** Thrown by `withinTime`. */
export class TimeLimitError extends Error {
  override readonly name = 'TimeLimitError';
}

/** How long a config, or a policy's `prepare`, may take: minutes of work are no mistake, hours are. */
export const userCodeLimit = 120_000;

/** Somebody waits in front of a command: after so long it says for what. */
const NOTICE_MS = 5_000;
let told = false;

/** From now on what takes long is named on stderr while it runs. */
export function tellWhatTakesLong(): void {
  told = true;
}

/** Name it from another thread: this one cannot, as it runs what is waited for. @returns how to stop */
function waitingFor(what: string, milliseconds: number): () => void {
  const line = `still running ${what} after ${NOTICE_MS / 1000} s; it is interrupted after ${milliseconds / 1000} s\n`;
  const code = `setTimeout(() => require('node:fs').writeSync(2, ${JSON.stringify(line)}), ${NOTICE_MS})`;
  const teller = new Worker(code, { eval: true, env: {}, execArgv: [] });
  // A closed stderr is no error: nobody reads it.
  teller.on('error', () => {});
  teller.unref();
  return () => void teller.terminate();
}

/**
 * Call a synchronous function and interrupt it after `milliseconds`, even inside an endless loop.
 *
 * @param what is running, for a person who waits
 * @throws TimeLimitError, or what the function throws
 */
export function withinTime<T>(run: () => T, milliseconds: number, what: string): T {
  // The limit of a script holds for all that it calls, in whatever realm that was made.
  const context = vm.createContext({ run });
  const stop = told ? waitingFor(what, milliseconds) : () => {};
  try {
    return vm.runInContext('run()', context, { timeout: milliseconds }) as T;
  } catch (error) {
    if ((error as NodeJS.ErrnoException | undefined)?.code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') {
      throw error;
    }
    throw new TimeLimitError(`no end after ${milliseconds / 1000} s`);
  } finally {
    stop();
  }
}
