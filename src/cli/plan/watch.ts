// Work that is done again whenever one of its files changes.
import { type FSWatcher, watch } from 'node:fs';
import path from 'node:path';
import { cancellation, paint, printError, printJsonError } from '../shared/output.ts';

/** Editors write a file in several steps. */
const settleMs = 100;

/**
 * Run `work`, and again after each change of a file, until Ctrl-C. A failure is printed, and the files
 * are watched on.
 *
 * @param files the files that the last run read
 */
export async function watching(
  files: () => readonly string[],
  work: () => Promise<void>,
  json: boolean,
): Promise<void> {
  const cancel = cancellation();
  const { dim } = paint(process.stderr);
  try {
    while (!cancel.signal.aborted) {
      // Before the run: a change during it counts.
      const early = nextChange(files(), cancel.signal);
      await work().catch((error: unknown) => {
        if (cancel.signal.aborted) return;
        if (json) printJsonError(error);
        printError(error);
      });
      const all = files();
      const late = nextChange(all, cancel.signal);
      process.stderr.write(dim(`watching ${all.map(shown).join(', ')}; Ctrl-C ends\n`));
      const changed = await Promise.race([early.changed, late.changed]);
      early.stop();
      late.stop();
      if (changed !== undefined) process.stderr.write(dim(`${shown(changed)} changed\n`));
    }
  } finally {
    cancel.stop();
  }
}

function shown(file: string): string {
  return path.relative(process.cwd(), file) || file;
}

interface Change {
  /** The file that changed; undefined where the signal came first. */
  readonly changed: Promise<string | undefined>;
  stop(): void;
}

/** Folders are watched, not files: an editor may put another file in the place of the one there was. */
export function nextChange(files: readonly string[], signal: AbortSignal): Change {
  const watchers: FSWatcher[] = [];
  let timer: NodeJS.Timeout | undefined;
  let left = (): void => {};
  const stop = (): void => {
    signal.removeEventListener('abort', left);
    clearTimeout(timer);
    for (const watcher of watchers) watcher.close();
  };
  const changed = new Promise<string | undefined>((resolve) => {
    left = () => resolve(undefined);
    signal.addEventListener('abort', left, { once: true });
    for (const folder of new Set(files.map((file) => path.dirname(file)))) {
      const watcher = watch(folder, (_event, name) => {
        const file = path.join(folder, String(name));
        if (!files.includes(file)) return;
        clearTimeout(timer);
        timer = setTimeout(() => resolve(file), settleMs);
      });
      watcher.on('error', () => watcher.close());
      watchers.push(watcher);
    }
  });
  return { changed, stop };
}
