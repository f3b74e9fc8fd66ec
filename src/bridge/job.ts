// Work in Python that takes long: a child process that reports events and can be cancelled.
import { type ChildProcess, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { LockstepError } from '../errors.ts';
import { setUpCommand } from '../paths.ts';
import { findPython, type Python, pythonEnvironment } from './python.ts';
import { LineTail } from './tail.ts';

/** One line that a job wrote on its event channel. */
export interface JobEvent {
  event: string;
  [field: string]: unknown;
}

export interface RunJobOptions {
  /** Python module to run as `python -m module`; it calls `lockstep.job.main`. */
  module?: string;
  /** Instead of `module`: the arguments after the interpreter. */
  command?: readonly string[];
  /** Description of the job, given to the Python function as a dict. */
  job: Readonly<Record<string, unknown>>;
  /** An interpreter from `findPython`, or what `--python` named. */
  python?: Python | string | undefined;
  cwd?: string;
  /** The whole environment, instead of what `childEnvironment` lets through of this process's. */
  env?: NodeJS.ProcessEnv;
  /** More folders for PYTHONPATH. */
  pythonPath?: readonly string[];
  /** Called for every event but `result` and `error`, in order. What it throws ends the job. */
  onEvent?: (event: JobEvent) => void;
  /** Called for every line on the job's stderr and stdout. */
  onLine?: (line: string) => void;
  /** Aborting sends SIGTERM; the job may still finish with a result. */
  signal?: AbortSignal | undefined;
  /** From SIGTERM to SIGKILL (default 30 s: a trainer saves a checkpoint in between). */
  graceMs?: number;
  /** Lines of output kept for error messages (default 20). */
  stderrLines?: number;
}

/**
 * Run a job to its end.
 *
 * The description goes to the child's stdin as one line of JSON and the pipe stays open: its end
 * tells the child that this process is gone. Events come back on fd 3 as NDJSON, so that whatever a
 * library prints on stdout does no harm.
 *
 * @returns the `result` event (after an abort too, where the job ended with one)
 * @throws LockstepError the job's own error by its code; LS_JOB_CANCELLED; LS_JOB_CRASHED (signal or
 *   exit code with no error event); LS_JOB_NO_RESULT; LS_JOB_PROTOCOL; LS_PYTHON_*
 */
export async function runJob(options: RunJobOptions): Promise<JobEvent> {
  const { signal } = options;
  const args = options.command ?? (options.module === undefined ? [] : ['-m', options.module]);
  if (args.length === 0) throw new TypeError('runJob: expected `module` or `command`, got neither');
  const name = options.module ?? args.join(' ');
  const python =
    typeof options.python === 'object'
      ? options.python
      : await findPython({ python: options.python, ...(options.env ? { env: options.env } : {}) });
  if (signal?.aborted) throw cancelled(name, signal);

  const child = spawn(python.executable, ['-u', ...args], {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    cwd: options.cwd,
    env: {
      ...pythonEnvironment(options.env, options.pythonPath),
      LOCKSTEP_EVENTS_FD: '3',
      LOCKSTEP_GRACE_SECONDS: String((options.graceMs ?? 30_000) / 1000),
    },
  });
  const tail = new LineTail(options.stderrLines ?? 20, options.onLine);
  drain(child.stdout as Readable, tail);
  drain(child.stderr as Readable, tail);
  const stopping = stopper(child, options.graceMs ?? 30_000);
  signal?.addEventListener('abort', stopping.stop, { once: true });
  // A job whose events cannot be read or taken has no use: it does not run on for hours.
  const inbox = receive(child.stdio[3] as Readable, options.onEvent, stopping.stop);
  const stdin = child.stdin as Writable;
  stdin.on('error', () => {}); // A child that died at once: its exit says why.
  stdin.write(`${JSON.stringify(options.job)}\n`);

  let exit: Exit;
  try {
    exit = await exited(child, python);
  } finally {
    signal?.removeEventListener('abort', stopping.stop);
    stopping.ended();
    stdin.destroy();
  }
  tail.end();
  const { thrown, error } = inbox;
  if (thrown instanceof Error && error !== undefined) thrown.cause ??= error;
  if (thrown !== undefined) throw thrown;
  if (error !== undefined) throw error;
  if (inbox.result !== undefined) return inbox.result;
  if (signal?.aborted || inbox.cancelled) throw cancelled(name, signal);
  throw crashed(name, exit, tail.lines());
}

interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

interface Inbox {
  result?: JobEvent;
  error?: LockstepError;
  cancelled: boolean;
  /** What `onEvent` threw, or a line that is no event. */
  thrown?: unknown;
}

/** @param failed called once, when `thrown` is set */
function receive(
  stream: Readable,
  onEvent: ((event: JobEvent) => void) | undefined,
  failed: () => void,
): Inbox {
  const inbox: Inbox = { cancelled: false };
  const fail = (why: unknown): void => {
    if (inbox.thrown !== undefined) return;
    inbox.thrown = why;
    failed();
  };
  const lines = new EventLines((line) => {
    let event: JobEvent;
    try {
      event = JSON.parse(line) as JobEvent;
      if (typeof event?.event !== 'string') throw new TypeError('no `event`');
    } catch {
      fail(
        new LockstepError(
          'LS_JOB_PROTOCOL',
          `expected one JSON event a line on the job's event channel, got ${JSON.stringify(line.slice(0, 80))}`,
          { fix: 'Report through lockstep.job.emit and write nothing else to fd 3.' },
        ),
      );
      return;
    }
    if (event.event === 'result') inbox.result = event;
    else if (event.event === 'error') inbox.error ??= remoteError(event);
    else if (event.event === 'cancelled') inbox.cancelled = true;
    else {
      try {
        onEvent?.(event);
      } catch (error) {
        fail(error);
      }
    }
  });
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => lines.push(chunk));
  stream.on('error', () => {});
  return inbox;
}

/** Splits a stream into lines of any length. */
class EventLines {
  readonly #onLine: (line: string) => void;
  #parts: string[] = [];

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(chunk: string): void {
    let from = 0;
    for (let end = chunk.indexOf('\n'); end >= 0; end = chunk.indexOf('\n', from)) {
      const line = this.#parts.join('') + chunk.slice(from, end);
      this.#parts = [];
      if (line !== '') this.#onLine(line);
      from = end + 1;
    }
    if (from < chunk.length) this.#parts.push(chunk.slice(from));
  }
}

/** A LockstepError out of what Python wrote: `{code, message, fix?, field?}`. */
export function remoteError(event: Readonly<Record<string, unknown>>): LockstepError {
  const code = typeof event['code'] === 'string' ? event['code'] : 'LS_PYTHON_FAILED';
  return new LockstepError(code as `LS_${string}`, String(event['message'] ?? 'no message'), {
    ...(typeof event['fix'] === 'string' ? { fix: event['fix'] } : {}),
    ...(typeof event['field'] === 'string' ? { field: event['field'] } : {}),
    ...(typeof event['traceback'] === 'string' ? { cause: event['traceback'] } : {}),
  });
}

function drain(stream: Readable, tail: LineTail): void {
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => tail.push(chunk));
  stream.on('error', () => {});
}

/** SIGTERM when asked to stop, SIGKILL after the grace; `ended` calls the latter off. */
function stopper(child: ChildProcess, graceMs: number): { stop: () => void; ended: () => void } {
  let timer: NodeJS.Timeout | undefined;
  return {
    stop() {
      child.kill('SIGTERM');
      timer ??= setTimeout(() => child.kill('SIGKILL'), graceMs);
    },
    ended: () => clearTimeout(timer),
  };
}

/** Resolves when the process has ended and all its pipes are read. */
function exited(child: ChildProcess, python: Python): Promise<Exit> {
  return new Promise((resolve, reject) => {
    child.once('error', (cause) =>
      reject(
        new LockstepError(
          'LS_PYTHON_NOT_FOUND',
          `expected an interpreter at ${python.executable}, got: ${cause.message}`,
          { cause, fix: `Run \`${setUpCommand()}\`, or name an interpreter with --python.` },
        ),
      ),
    );
    child.once('close', (code, signal) => resolve({ code, signal }));
    // A grandchild that outlives the job keeps its pipes open: do not wait for it for ever.
    child.once('exit', (code, signal) => {
      setTimeout(() => {
        for (const stream of child.stdio) (stream as Readable | null)?.destroy();
        resolve({ code, signal });
      }, 2000).unref();
    });
  });
}

function cancelled(name: string, signal: AbortSignal | undefined): LockstepError {
  return new LockstepError('LS_JOB_CANCELLED', `${name} was cancelled before it had a result`, {
    fix: 'Start the job again.',
    cause: signal?.reason,
  });
}

function crashed(name: string, exit: Exit, lines: readonly string[]): LockstepError {
  const last = lines.filter((line) => line.trim() !== '').join('\n');
  const output = last === '' ? 'It printed nothing.' : `Its last lines:\n${last}`;
  if (exit.signal === null && exit.code === 0) {
    return new LockstepError(
      'LS_JOB_NO_RESULT',
      `expected a result event from ${name}, got exit code 0 without one. ${output}`,
      { fix: "Let the job's function return its result to lockstep.job.main." },
    );
  }
  const how = exit.signal === null ? `exit code ${exit.code}` : `the end by signal ${exit.signal}`;
  return new LockstepError(
    'LS_JOB_CRASHED',
    `expected ${name} to end with a result, got ${how}. ${output}`,
    exit.signal === 'SIGKILL'
      ? { fix: 'SIGKILL often means that memory ran out: use a smaller model, segment or batch' }
      : { fix: 'Read its last lines; LOCKSTEP_DEBUG=1 shows where in Python it happened.' },
  );
}
