// A Python program that runs until it is stopped. No process of it outlives this one.
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { LockstepError } from '../errors.ts';
import { pythonRoot, setUpCommand } from '../paths.ts';
import { type Python, pythonEnvironment } from './python.ts';
import { LineTail } from './tail.ts';

export interface ServiceOptions {
  python: Python;
  /** Arguments after the interpreter. */
  command: readonly string[];
  /** The whole environment, instead of what `childEnvironment` lets through of this process's. */
  env?: NodeJS.ProcessEnv;
  /** Called for every line that it prints. */
  onLine?: (line: string) => void;
  /** From the request to stop to SIGKILL (default 10 s). */
  graceMs?: number;
  /** Lines of output kept for error messages (default 40). */
  lines?: number;
}

export interface ServiceExit {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Its last lines. */
  lines: string[];
}

export interface Service {
  readonly pid: number;
  /** Settles when it and all that it started have ended. */
  readonly exited: Promise<ServiceExit>;
  /** Ask it to end, and see that it does. Idempotent. */
  stop(): Promise<ServiceExit>;
}

/**
 * Start a service under `python/lockstep/bridge/guard.py`, in a process group of its own: a Ctrl-C in the
 * terminal reaches this process alone. The guard ends the service when this process ends, even by
 * SIGKILL, and everything that the service started when the service ends.
 *
 * @throws LockstepError LS_PYTHON_NOT_FOUND
 */
export async function startService(options: ServiceOptions): Promise<Service> {
  const { python, command, graceMs = 10_000 } = options;
  const guard = path.join(pythonRoot, 'lockstep', 'bridge', 'guard.py');
  const child = spawn(
    python.executable,
    ['-I', guard, String(graceMs / 1000), python.executable, '-u', ...command],
    {
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
      env: pythonEnvironment(options.env),
    },
  );
  const tail = new LineTail(options.lines ?? 40, options.onLine);
  for (const stream of [child.stdout, child.stderr] as Readable[]) {
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => tail.push(chunk));
    stream.on('error', () => {});
  }
  // A guard that died at once: its exit says why.
  child.stdin.on('error', () => {});
  await started(child, python);
  const pid = child.pid as number;
  const exited = new Promise<ServiceExit>((resolve) => {
    child.once('exit', (code, signal) => {
      // Whatever stayed in the group although the guard is gone.
      killGroup(pid);
      const settle = () => {
        tail.end();
        resolve({ code, signal, lines: tail.lines() });
      };
      // The pipes may hold the last words still; a straggler must not hold them for ever.
      const timer = setTimeout(settle, 1_000);
      child.once('close', () => {
        clearTimeout(timer);
        settle();
      });
    });
  });
  let stopping = false;
  return {
    pid,
    exited,
    stop() {
      if (!stopping) {
        stopping = true;
        child.stdin.destroy();
        const late = setTimeout(() => killGroup(pid), graceMs + 8_000);
        void exited.then(() => clearTimeout(late));
      }
      return exited;
    },
  };
}

function started(child: ChildProcess, python: Python): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) => {
      const got = `expected an interpreter at ${python.executable}, got: ${cause.message}`;
      const fix = `Run \`${setUpCommand()}\`, or name an interpreter with --python.`;
      reject(new LockstepError('LS_PYTHON_NOT_FOUND', got, { cause, fix }));
    });
  });
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // The group is empty.
  }
}
