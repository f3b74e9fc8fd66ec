// One stage of the quickstart: a `lockstep` command as its own process, as a user would run it.
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { LockstepError } from '../../errors.ts';
import { packageRoot } from '../../paths.ts';
import { shellWord } from '../../shell-word.ts';

const cliPath: string = path.join(packageRoot, 'dist', 'cli', 'main.js');

/** A JSON object that a stage printed: events first, the result last. */
export type StageEvent = Record<string, unknown>;

export interface StageOptions {
  signal: AbortSignal;
  onEvent?: (event: StageEvent) => void;
  /** Exit codes that still carry a result (verify answers 1 when engines differ). */
  accept?: number[];
}

/** Starts `lockstep …args`; stderr goes to this process's stderr. */
export function spawnStage(args: string[], signal: AbortSignal): ChildProcess {
  const child = spawn(process.execPath, [cliPath, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const stop = (): void => void child.kill('SIGTERM');
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop, { once: true });
  child.once('close', () => signal.removeEventListener('abort', stop));
  return child;
}

/**
 * Runs `lockstep …args --json` and gives its last line.
 * Throws LS_QUICKSTART_STAGE when the command fails; what it had to say is on stderr by then.
 */
export async function runStage(args: string[], options: StageOptions): Promise<StageEvent> {
  const child = spawnStage([...args, '--json'], options.signal);
  let last: StageEvent = {};
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  lines.on('line', (line) => {
    if (!line.startsWith('{')) return;
    last = JSON.parse(line) as StageEvent;
    options.onEvent?.(last);
  });
  const [code] = await Promise.all([
    new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    }),
    new Promise((resolve) => lines.once('close', resolve)),
  ]);
  options.signal.throwIfAborted();
  if (code !== 0 && !options.accept?.includes(code ?? -1)) {
    throw new LockstepError(
      'LS_QUICKSTART_STAGE',
      `expected \`lockstep ${args.map(shellWord).join(' ')}\` to succeed, got exit code ${code}.`,
      { fix: 'Read the lines above. Fix the problem, then run that command by hand.' },
    );
  }
  return last;
}
