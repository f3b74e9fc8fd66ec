// Processes of closed templates are kept for seconds. If the same template is opened again in that time (a model is
// replaced, or a program starts its next server), it need not wait for Python to start.
import type { ChildProcess } from 'node:child_process';

/** How long one is kept, in milliseconds. */
const SPARE_MS = 5_000;

interface Spare {
  child: ChildProcess;
  release: () => void;
}

/** At most one of each template. */
const spares = new Map<string, Spare>();

/**
 * Keep a process that waits for work.
 *
 * @param key the template and its limits
 * @returns false where there is one already
 */
export function keepSpare(key: string, child: ChildProcess): boolean {
  if (spares.has(key)) return false;
  const release = (): void => {
    clearTimeout(timer);
    child.off('exit', release);
    spares.delete(key);
  };
  const timer = setTimeout(() => {
    // Released before its end is reported: until then it would still be handed out.
    release();
    child.kill('SIGKILL');
  }, SPARE_MS).unref();
  child.once('exit', release);
  spares.set(key, { child, release });
  return true;
}

/** A process that has read this template, or undefined; the caller's from now on. */
export function takeSpare(key: string): ChildProcess | undefined {
  const spare = spares.get(key);
  spare?.release();
  return spare?.child;
}
