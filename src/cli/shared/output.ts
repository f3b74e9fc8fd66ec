// What every command prints with: colours, errors, progress, cancellation.
import { SingleBar } from 'cli-progress';
import { LockstepError } from '../../errors.ts';

/** Exit codes of `lockstep`. */
export const exitCodes = { ok: 0, failed: 1, usage: 2, cancelled: 130 } as const;

/** Where output goes: `process.stdout`, `process.stderr`, or a collector in tests. */
export interface Screen {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

/** Whether a stream takes colours: a terminal, unless NO_COLOR (or `--no-color`) says otherwise. */
export function hasColor(screen: Screen, env: NodeJS.ProcessEnv = process.env): boolean {
  if (env['NO_COLOR'] !== undefined && env['NO_COLOR'] !== '') return false;
  if (env['FORCE_COLOR'] !== undefined && env['FORCE_COLOR'] !== '')
    return env['FORCE_COLOR'] !== '0';
  return screen.isTTY === true && env['TERM'] !== 'dumb';
}

export interface Paint {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
  cyan(text: string): string;
}

/** Colours for a stream; the identity where it takes none. */
export function paint(screen: Screen): Paint {
  const on = hasColor(screen);
  const style =
    (open: number, close: number) =>
    (text: string): string =>
      on ? `\x1b[${open}m${text}\x1b[${close}m` : text;
  return {
    bold: style(1, 22),
    dim: style(2, 22),
    red: style(31, 39),
    green: style(32, 39),
    yellow: style(33, 39),
    cyan: style(36, 39),
  };
}

/** An error that an exit code and a user can be given; anything else becomes LS_INTERNAL. */
export function asLockstepError(error: unknown): LockstepError {
  // By name: a config file has its own copy of this class.
  if ((error as Error | undefined)?.name === 'LockstepError') return error as LockstepError;
  const what = error instanceof Error ? error.message : String(error);
  const { code, path } = (error ?? {}) as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new LockstepError(
      'LS_DISK_FULL',
      `expected free disk space, got none while writing ${path ?? 'a file'}`,
      { fix: 'Free space or write to another disk.', cause: error },
    );
  }
  return new LockstepError('LS_INTERNAL', what, {
    fix: 'This is a fault of Lockstep: please report it, with the output of LOCKSTEP_DEBUG=1.',
    cause: error,
  });
}

/** Print an error (never a stack trace, unless LOCKSTEP_DEBUG asks) and return the exit code. */
export function printError(error: unknown, screen: Screen = process.stderr): number {
  const failure = asLockstepError(error);
  const { red, bold, dim } = paint(screen);
  screen.write(`${red('error')} ${bold(failure.code)}: ${failure.message}\n`);
  screen.write(placeText(failure));
  if (failure.fix !== undefined) screen.write(`${dim('fix:')} ${failure.fix}\n`);
  if (process.env['LOCKSTEP_DEBUG'])
    screen.write(`${(error as Error | null | undefined)?.stack ?? ''}\n`);
  if (failure.code.endsWith('_CANCELLED')) return exitCodes.cancelled;
  return failure.code === 'LS_USAGE' ? exitCodes.usage : exitCodes.failed;
}

/** The place of an error with its lines, on lines of their own; nothing where there is none. */
function placeText({ message, place }: LockstepError): string {
  if (place === undefined) return '';
  const { file, line, column } = place;
  const named = message.startsWith(`${file}:${line}:`) ? '' : `at ${file}:${line}:${column}\n`;
  return `${named}${place.frame === undefined ? '' : `${place.frame}\n`}`;
}

/** For programs, what failed on stdout: `{"ok": false, "error": {code, message, fix, ...}}`, as the last line. */
export function printJsonError(error: unknown, screen: Screen = process.stdout): void {
  screen.write(`${JSON.stringify({ ok: false, error: asLockstepError(error) })}\n`);
}

/** Say on stderr what does not stop the work. */
export function printWarning(warning: { code: string; message: string }): void {
  const { yellow } = paint(process.stderr);
  process.stderr.write(`${yellow('warning')} ${warning.code}: ${warning.message}\n`);
}

export interface Progress {
  /** Set how far the work is, in the units of `total`, with a short note behind it. */
  update(value: number, note?: string): void;
  stop(): void;
}

export interface ProgressOptions {
  label: string;
  /** The whole, in any unit; 0 where it is unknown. */
  total: number;
  screen?: Screen;
}

/** Plain lines come this often, so that short work prints none. */
const lineEvery = 5_000;

/** A bar on a terminal; elsewhere a plain line every few seconds. It writes to stderr. */
export function progress(options: ProgressOptions): Progress {
  const { label, total, screen = process.stderr } = options;
  if (screen.isTTY !== true) return lines(label, total, screen);
  const bar = new SingleBar({
    format: `${label} {bar} {percentage}% {note}`,
    barCompleteChar: '█',
    barIncompleteChar: '░',
    hideCursor: true,
    clearOnComplete: true,
    stream: screen as unknown as NodeJS.WritableStream,
    barsize: 28,
    fps: 10,
  });
  bar.start(Math.max(1, total), 0, { note: '' });
  return {
    update: (value, note = '') => bar.update(Math.min(value, Math.max(1, total)), { note }),
    stop: () => bar.stop(),
  };
}

function lines(label: string, total: number, screen: Screen): Progress {
  let last = Date.now();
  return {
    update(value, note = '') {
      if (Date.now() - last < lineEvery) return;
      last = Date.now();
      const share = total > 0 ? ` ${Math.floor((100 * value) / total)}%` : '';
      screen.write(`${label}${share} ${note}\n`);
    },
    stop: () => {},
  };
}

export interface Cancellation {
  readonly signal: AbortSignal;
  /** Why work ended: the cancellation where there was one, else what was thrown. */
  reason(thrown: unknown): unknown;
  /** Give SIGINT and SIGTERM back their default. */
  stop(): void;
}

/** A signal that SIGINT and SIGTERM abort; a second one ends the process at once. */
export function cancellation(): Cancellation {
  const controller = new AbortController();
  const cancel = (): void => {
    if (controller.signal.aborted) process.exit(exitCodes.cancelled);
    controller.abort(new LockstepError('LS_CANCELLED', 'cancelled.'));
  };
  process.on('SIGINT', cancel);
  process.on('SIGTERM', cancel);
  return {
    signal: controller.signal,
    reason: (thrown) => (controller.signal.aborted ? controller.signal.reason : thrown),
    stop: () => {
      process.off('SIGINT', cancel);
      process.off('SIGTERM', cancel);
    },
  };
}
