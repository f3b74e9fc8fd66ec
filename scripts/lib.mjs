// What the scripts share. Node's own modules only: they run before `npm ci`.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
export const work = path.join(root, '.lockstep');
export const venv = path.join(root, '.venv');
export const venvPython = path.join(
  venv,
  ...(process.platform === 'win32' ? ['Scripts', 'python.exe'] : ['bin', 'python']),
);

/** Ends the program with a code, one sentence and its fix; no stack trace. */
export class SetupError extends Error {
  constructor(code, message, fix) {
    super(message);
    this.code = code;
    this.fix = fix;
  }
}

export function report(error) {
  if (!(error instanceof SetupError)) throw error;
  process.stderr.write(`error ${error.code}: ${error.message}\n  fix: ${error.fix}\n`);
  process.exitCode = 1;
}

/** One line of progress on stderr, so that stdout stays free for results. */
export function say(text) {
  process.stderr.write(`${text}\n`);
}

export function sha256(file) {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

/** SHA-256 over several files: what a marker file records to know whether a step is still done. */
export function fingerprint(files) {
  const hash = createHash('sha256');
  for (const file of files) hash.update(existsSync(file) ? readFileSync(file) : 'absent');
  return hash.digest('hex');
}

/**
 * Runs a command; its output goes to stderr (or is kept when `quiet`).
 * @returns {Promise<{code: number|null, signal: string|null, output: string}>}
 */
export function run(command, args, { quiet = false, env = process.env, cwd = root } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      shell: process.platform === 'win32' && command === 'npm',
    });
    let output = '';
    const take = (chunk) => {
      output = (output + chunk).slice(-20_000);
      if (!quiet) process.stderr.write(chunk);
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, output }));
  });
}

/**
 * Runs steps [name, command, arguments] one after the other, each owning the terminal, and stops at the
 * first that fails: its exit code becomes this process's.
 */
export async function runSteps(steps, env) {
  for (const [name, command, args] of steps) {
    process.stderr.write(`\n── ${name}\n`);
    const code = await attached(command, args, { env });
    if (code === 0) continue;
    process.stderr.write(`\n${name}: failed (exit ${code})\n`);
    process.exitCode = code;
    return;
  }
}

/**
 * Runs steps at once, so that no core waits: the first owns the terminal, what the others print follows
 * when all have ended. The exit code of one that fails becomes this process's.
 */
export async function runTogether([shown, ...kept], env) {
  const names = kept.map(([name]) => name).join(', ');
  process.stderr.write(`\n── ${shown[0]}; ${names} at the same time, printed afterwards\n`);
  const outputs = kept.map(() => '');
  const codes = await Promise.all([
    // Behind the others: Vitest has workers, which fill the cores that pytest leaves, and both end together.
    attached(shown[1], shown[2], { env, priority: 2 }),
    ...kept.map(([, command, args], at) =>
      attached(command, args, {
        env,
        take: (chunk) => {
          outputs[at] += chunk;
        },
      }),
    ),
  ]);
  for (const [at, [name]] of kept.entries()) {
    process.stderr.write(`\n── ${name}\n`);
    process.stdout.write(outputs[at]);
  }
  for (const [at, [name]] of [shown, ...kept].entries()) {
    if (codes[at] === 0) continue;
    process.stderr.write(`\n${name}: failed (exit ${codes[at]})\n`);
    process.exitCode = codes[at];
  }
}

/**
 * Runs a child that owns the terminal, unless `take` gets its output; resolves to its exit code (128 +
 * signal when killed).
 */
export function attached(command, args, { env = process.env, take, priority } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: process.env.INIT_CWD ?? process.cwd(),
      env,
      stdio: take === undefined ? 'inherit' : ['ignore', 'pipe', 'pipe'],
    });
    if (priority !== undefined && child.pid !== undefined) os.setPriority(child.pid, priority);
    for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8').on('data', take);
    const forward = (signal) => child.kill(signal);
    // Ctrl-C reaches the whole process group; SIGTERM reaches this process alone.
    const ignore = () => {};
    process.on('SIGINT', ignore);
    process.on('SIGTERM', forward);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      process.off('SIGINT', ignore);
      process.off('SIGTERM', forward);
      resolve(code ?? 128 + ({ SIGINT: 2, SIGKILL: 9, SIGTERM: 15 }[signal] ?? 1));
    });
  });
}
