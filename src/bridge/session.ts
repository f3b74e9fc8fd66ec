// A conversation with Python over pythonia: JSON strings in, JSON strings out, one call at a time.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { LockstepError } from '../errors.ts';
import { setUpCommand } from '../paths.ts';
import { remoteError } from './job.ts';
import { findPython, type Python, pythonEnvironment } from './python.ts';
import { type Pythonia, startPythonia } from './pythonia.ts';

export interface PythonSessionOptions {
  /** An interpreter from `findPython`, or what `--python` named. */
  python?: Python | string | undefined;
  /** The whole environment, instead of what `childEnvironment` lets through of this process's. */
  env?: NodeJS.ProcessEnv;
  /** More folders for PYTHONPATH. */
  pythonPath?: readonly string[];
  /** Time a call may take once Python works on it (default: no limit). */
  timeoutMs?: number;
  /** Time for the interpreter to start and import `lockstep.bridge.rpc` (default 120 s). */
  startTimeoutMs?: number;
}

export interface CallOptions {
  /** Overrides the session's. A call that runs into it ends the session: Python cannot be interrupted. */
  timeoutMs?: number;
  /** Called with the answer before the next call is sent: the time to read files that it names. */
  take?: (answer: never) => unknown;
}

/** JSON above this many characters goes through a file: pythonia takes 10 s for 10 MB. */
const inlineLimit = 32_768;

/** Folders of open sessions, removed also where Node ends without closing them. */
const folders = new Set<string>();
process.once('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

interface Pending {
  method: string;
  params: object;
  timeoutMs: number | undefined;
  take: ((answer: never) => unknown) | undefined;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/**
 * One Python interpreter that answers calls.
 *
 * Calls are queued and run one after the other. When the interpreter dies, the running call and all
 * that wait reject at once with LS_PYTHON_DIED; open a new session to go on. An idle session does not
 * keep Node alive.
 */
export class PythonSession {
  readonly python: Python;
  readonly #folder: string;
  readonly #log: string;
  readonly #timeoutMs: number | undefined;
  #pythonia: Pythonia | undefined;
  #handle: ((request: string) => Promise<unknown>) | undefined;
  #queue: Pending[] = [];
  #running: Pending | undefined;
  #end: LockstepError | undefined;
  #ended: Promise<void> = Promise.resolve();
  #files = 0;
  #die: (error: LockstepError) => void = () => {};
  /** Settles with LS_PYTHON_DIED when the interpreter has ended by itself, also while no call ran. */
  readonly died = new Promise<LockstepError>((resolve) => {
    this.#die = resolve;
  });

  private constructor(python: Python, timeoutMs: number | undefined) {
    this.python = python;
    this.#timeoutMs = timeoutMs;
    this.#folder = mkdtempSync(path.join(tmpdir(), 'lockstep-session-'));
    folders.add(this.#folder);
    this.#log = path.join(this.#folder, 'python.log');
  }

  /**
   * Start an interpreter and wait until it answers.
   *
   * @throws LockstepError LS_PYTHON_NOT_FOUND / _VERSION / _PACKAGES, LS_PYTHON_DIED,
   *   LS_PYTHON_TIMEOUT
   */
  static async open(options: PythonSessionOptions = {}): Promise<PythonSession> {
    const python =
      typeof options.python === 'object'
        ? options.python
        : await findPython({
            python: options.python,
            ...(options.env ? { env: options.env } : {}),
          });
    const session = new PythonSession(python, options.timeoutMs);
    try {
      await session.#start(options);
    } catch (error) {
      await session.close();
      throw error;
    }
    return session;
  }

  get pid(): number | undefined {
    return this.#pythonia?.process.pid;
  }

  get alive(): boolean {
    return this.#end === undefined;
  }

  /** A private folder for files that both sides read; removed when the session ends. */
  get folder(): string {
    return this.#folder;
  }

  /**
   * Call a Python function.
   *
   * @param method `module:function`; the function takes `params` as keyword arguments and returns
   *   something JSON can hold, without NaN
   * @throws LockstepError what Python raised, by its code; LS_PYTHON_NAN; LS_PYTHON_DIED;
   *   LS_PYTHON_TIMEOUT; LS_PYTHON_CLOSED
   */
  call<T>(method: string, params: object = {}, options: CallOptions = {}): Promise<T> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({
        method,
        params,
        timeoutMs: options.timeoutMs ?? this.#timeoutMs,
        take: options.take,
        resolve: resolve as (value: unknown) => void,
        reject,
      });
      this.#next();
    });
  }

  /** End the interpreter; what waits rejects with LS_PYTHON_CLOSED. Idempotent. */
  async close(): Promise<void> {
    this.#finish(
      new LockstepError('LS_PYTHON_CLOSED', 'expected an open Python session, got a closed one', {
        fix: 'Open another session.',
      }),
    );
    await this.#ended;
  }

  async #start(options: PythonSessionOptions): Promise<void> {
    const env = {
      ...pythonEnvironment(options.env, options.pythonPath),
      LOCKSTEP_RPC_LOG: this.#log,
    };
    const pythonia = startPythonia(this.python.executable, env, (error) =>
      this.#finish(this.#died(error.message)),
    );
    this.#pythonia = pythonia;
    const child = pythonia.process;
    this.#ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#finish(this.#died(signal === null ? `exit code ${code}` : `signal ${signal}`));
        this.#removeFolder();
        resolve();
      });
      if (child.pid === undefined) child.once('error', () => resolve());
    });
    const imported = pythonia.import('lockstep.bridge.rpc').then(
      (module) => {
        this.#handle = (request) =>
          (module['handle'] as (text: string) => Promise<unknown>)(request);
      },
      (cause) => {
        throw new LockstepError(
          'LS_PYTHON_PACKAGES',
          `expected ${this.python.executable} to import lockstep.bridge.rpc, got: ${lastLine(cause)}`,
          { fix: `Run \`${setUpCommand()}\`.`, cause },
        );
      },
    );
    await this.#race('start', imported, options.startTimeoutMs ?? 120_000);
    pythonia.keepAlive(false);
  }

  #next(): void {
    const pending = this.#queue[0];
    if (this.#running !== undefined || pending === undefined || this.#handle === undefined) return;
    this.#queue.shift();
    this.#running = pending;
    this.#pythonia?.keepAlive(true);
    this.#race(pending.method, this.#send(this.#handle, pending), pending.timeoutMs)
      .then((answer) => (pending.take === undefined ? answer : pending.take(answer as never)))
      .then(pending.resolve, pending.reject)
      .finally(() => {
        this.#running = undefined;
        // Once it is ended, the process is kept until `close` has seen its end.
        if (this.#queue.length === 0 && this.#end === undefined) this.#pythonia?.keepAlive(false);
        this.#next();
      });
  }

  async #send(handle: (request: string) => Promise<unknown>, call: Pending): Promise<unknown> {
    let params = JSON.stringify(call.params);
    let spilled: string | undefined;
    if (params.length > inlineLimit) {
      spilled = path.join(this.#folder, `in-${this.#files++}.json`);
      writeFileSync(spilled, params);
      params = 'null';
    }
    const request = JSON.stringify({
      method: call.method,
      params,
      file: spilled ?? null,
      inline: inlineLimit,
    });
    const answer = JSON.parse(String(await handle(request))) as Answer;
    if (spilled !== undefined) rmSync(spilled, { force: true });
    if (answer.error !== undefined) throw remoteError(answer.error);
    if (answer.file === undefined) return answer.result;
    const text = readFileSync(answer.file, 'utf8');
    rmSync(answer.file, { force: true });
    return JSON.parse(text);
  }

  /** Whichever comes first: the work, the end of the session, the time limit (which is its end). */
  #race<T>(what: string, work: Promise<T>, timeoutMs: number | undefined): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#onEnd.add(reject);
      const timer =
        timeoutMs === undefined
          ? undefined
          : setTimeout(() => {
              const error = new LockstepError(
                'LS_PYTHON_TIMEOUT',
                `expected Python to answer ${what} within ${timeoutMs} ms, got nothing; its process was ended`,
                { fix: 'Allow more time, or set LOCKSTEP_DEBUG=1 to see what it does.' },
              );
              reject(error);
              this.#finish(this.#died(`the end of ${what} after ${timeoutMs} ms`));
            }, timeoutMs);
      work.then(resolve, reject).finally(() => {
        clearTimeout(timer);
        this.#onEnd.delete(reject);
      });
      if (this.#end !== undefined) {
        clearTimeout(timer);
        reject(this.#end);
      }
    });
  }

  readonly #onEnd = new Set<(error: LockstepError) => void>();

  #finish(error: LockstepError): void {
    if (this.#end !== undefined) return;
    this.#end = error;
    if (error.code !== 'LS_PYTHON_CLOSED') this.#die(error);
    this.#pythonia?.stop();
    // The process's end is awaited by `close`: it must not be the reason for Node to leave early.
    this.#pythonia?.keepAlive(true);
    this.#pythonia?.process.kill('SIGKILL');
    for (const reject of this.#onEnd) reject(error);
    this.#onEnd.clear();
    for (const pending of this.#queue.splice(0)) pending.reject(error);
    if (this.pid === undefined) this.#removeFolder();
  }

  #removeFolder(): void {
    rmSync(this.#folder, { recursive: true, force: true });
    folders.delete(this.#folder);
  }

  #died(how: string): LockstepError {
    const lines = this.#lastLines();
    const printed = lines === '' ? '' : ` Its last lines:\n${lines}`;
    return new LockstepError(
      'LS_PYTHON_DIED',
      `expected an answer from the Python process, but it exited (${how}).${printed}`,
      { fix: 'Open the session or engine again; if it was killed, memory may have run out.' },
    );
  }

  #lastLines(): string {
    try {
      return readFileSync(this.#log, 'utf8').trimEnd().split('\n').slice(-10).join('\n');
    } catch {
      return '';
    }
  }
}

interface Answer {
  result?: unknown;
  /** Where a large result was written. */
  file?: string;
  error?: Record<string, unknown>;
}

/** pythonia's errors carry a coloured picture of both stacks in `stack` and an empty message. */
function lastLine(cause: unknown): string {
  const text = cause instanceof Error ? cause.message || cause.stack || '' : String(cause);
  return stripVTControlCharacters(text).trimEnd().split('\n').at(-1) ?? '';
}
