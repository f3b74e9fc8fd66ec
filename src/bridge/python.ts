// Finding the Python interpreter that runs Lockstep's Python half.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { LockstepError } from '../errors.ts';
import { isClone, packageRoot, pythonRoot, setUpCommand } from '../paths.ts';
import { childEnvironment, noTelemetry } from './environment.ts';

/** Where an interpreter was looked for, in this order. */
export type PythonSource = '--python' | 'PYTHON_BIN' | 'VIRTUAL_ENV' | '.venv' | 'PATH';

export interface PythonAttempt {
  source: PythonSource;
  executable: string;
  /** Why it was not taken; null for the one that was. */
  problem: string | null;
}

export interface Python {
  /** Absolute path where one is known; `python3` is resolved by the interpreter itself. */
  executable: string;
  /** As `3.11.7`. */
  version: string;
  source: PythonSource;
  /** Installed versions of the modules that were asked for, by module name. */
  modules: Record<string, string>;
  /** Every candidate in order, the taken one last. */
  tried: PythonAttempt[];
}

export interface FindPythonOptions {
  /** What `--python` names: a path or a command. */
  python?: string | undefined;
  /** Folder from which `.venv` is searched upwards. */
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Modules that must be importable. Default: everything the trainer and the operator need. */
  modules?: readonly string[];
}

/** Importable names that Lockstep's Python half needs. */
export const requiredModules: readonly string[] = [
  'torch',
  'transformers',
  'safetensors',
  'numpy',
  'wasmtime',
  'rfc8785',
  'jsonschema',
];

const minimumPython: readonly [number, number] = [3, 11];

// find_spec and metadata only: importing torch here would cost seconds on every command.
const probe = `
import importlib.metadata as metadata, importlib.util as util, json, sys
found = {}
for name, distribution in json.loads(sys.argv[1]):
    try:
        present = util.find_spec(name) is not None
    except Exception:
        present = False
    if present:
        try:
            found[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
print(json.dumps({"executable": sys.executable, "version": list(sys.version_info[:3]), "modules": found}))
`;

interface Probed {
  executable: string;
  version: [number, number, number];
  modules: Record<string, string>;
}

/**
 * Find the interpreter: `--python`, PYTHON_BIN, VIRTUAL_ENV, the nearest `.venv` (from `cwd` upwards,
 * then the package's own), `python3` on PATH.
 *
 * A candidate that the user named (`--python`, PYTHON_BIN) is taken or refused, never passed over.
 *
 * @throws LockstepError LS_PYTHON_NOT_FOUND nothing runs; LS_PYTHON_VERSION older than 3.11;
 *   LS_PYTHON_PACKAGES a required module is missing
 */
export async function findPython(options: FindPythonOptions = {}): Promise<Python> {
  const env = options.env ?? process.env;
  const modules = options.modules ?? requiredModules;
  const tried: PythonAttempt[] = [];
  let closest: LockstepError | undefined;
  for (const { source, executable } of candidates(options, env)) {
    const outcome = await examine(source, executable, env, modules);
    if (!(outcome instanceof LockstepError)) {
      tried.push({ source, executable, problem: null });
      return { ...outcome, source, tried };
    }
    tried.push({ source, executable, problem: outcome.message });
    if (source === '--python' || source === 'PYTHON_BIN') throw outcome;
    // An interpreter that lacks packages says more than one that does not exist.
    if (closest === undefined || closest.code === 'LS_PYTHON_NOT_FOUND') closest = outcome;
  }
  const list = tried.map((one) => `${one.executable} (${one.source}): ${one.problem}`).join('; ');
  throw new LockstepError(
    (closest?.code ?? 'LS_PYTHON_NOT_FOUND') as 'LS_PYTHON_NOT_FOUND',
    `expected a Python ${minimumPython.join('.')} or newer with Lockstep's requirements, got none. Tried ${list}`,
    { fix: setupFix, cause: closest },
  );
}

const setupFix = `Run \`${setUpCommand()}\`, which ${
  isClone ? 'makes .venv with pinned requirements' : 'installs the Python half in .venv'
}, or name an interpreter with --python.`;

function* candidates(
  options: FindPythonOptions,
  env: NodeJS.ProcessEnv,
): Generator<{ source: PythonSource; executable: string }> {
  if (options.python) yield { source: '--python', executable: options.python };
  if (env['PYTHON_BIN']) yield { source: 'PYTHON_BIN', executable: env['PYTHON_BIN'] };
  if (env['VIRTUAL_ENV']) {
    yield { source: 'VIRTUAL_ENV', executable: interpreterIn(env['VIRTUAL_ENV']) };
  }
  const seen = new Set<string>();
  for (const folder of [...upwards(path.resolve(options.cwd ?? process.cwd())), packageRoot]) {
    const venv = path.join(folder, '.venv');
    if (seen.has(venv) || !existsSync(venv)) continue;
    seen.add(venv);
    yield { source: '.venv', executable: interpreterIn(venv) };
  }
  yield { source: 'PATH', executable: process.platform === 'win32' ? 'python' : 'python3' };
}

function* upwards(folder: string): Generator<string> {
  for (let at = folder; ; at = path.dirname(at)) {
    yield at;
    if (path.dirname(at) === at) return;
  }
}

function interpreterIn(venv: string): string {
  return process.platform === 'win32'
    ? path.join(venv, 'Scripts', 'python.exe')
    : path.join(venv, 'bin', 'python');
}

async function examine(
  source: PythonSource,
  executable: string,
  env: NodeJS.ProcessEnv,
  modules: readonly string[],
): Promise<Omit<Python, 'source' | 'tried'> | LockstepError> {
  const wanted = modules.map((name) => [name, name]);
  let probed: Probed;
  try {
    const given = env === process.env ? childEnvironment() : env;
    const printed = await run(executable, ['-c', probe, JSON.stringify(wanted)], given);
    // A sitecustomize may print before us; our line is the last.
    probed = JSON.parse(printed.trimEnd().split('\n').at(-1) ?? '') as Probed;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    return new LockstepError(
      'LS_PYTHON_NOT_FOUND',
      `expected ${source} to name a Python interpreter, got ${executable}, which did not run (${reason})`,
      { fix: setupFix, cause },
    );
  }
  const version = probed.version.join('.');
  const [major, minor] = probed.version;
  if (major < minimumPython[0] || (major === minimumPython[0] && minor < minimumPython[1])) {
    return new LockstepError(
      'LS_PYTHON_VERSION',
      `expected Python ${minimumPython.join('.')} or newer, got ${version} at ${probed.executable} (${source})`,
      {
        fix: `Install Python ${minimumPython.join('.')} or newer, then run \`${setUpCommand()}\`.`,
      },
    );
  }
  const missing = modules.filter((name) => probed.modules[name] === undefined);
  if (missing.length > 0) {
    return new LockstepError(
      'LS_PYTHON_PACKAGES',
      `expected ${probed.executable} (${source}) to have Lockstep's requirements, got none of: ${missing.join(', ')}`,
      { fix: setupFix },
    );
  }
  return { executable: probed.executable || executable, version, modules: probed.modules };
}

function run(executable: string, args: string[], env: NodeJS.ProcessEnv): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(executable, args, { env, timeout: 60_000 }, (error, stdout) =>
      error ? reject(error) : resolve(stdout),
    );
  });
}

/**
 * Environment for a Lockstep Python process: what `childEnvironment` lets through of this process's,
 * the package's `python/` folder first on PYTHONPATH, UTF-8 whatever the locale says, no hub.
 *
 * @param given instead of this process's environment; nothing of it is left out
 * @param extra more folders for PYTHONPATH, before the package's
 */
export function pythonEnvironment(
  given?: NodeJS.ProcessEnv,
  extra: readonly string[] = [],
): NodeJS.ProcessEnv {
  const env = given ?? childEnvironment();
  const inherited = env['PYTHONPATH'];
  return {
    ...env,
    ...noTelemetry,
    // Checkpoints and data are local folders: nothing is to be asked for in between.
    HF_HUB_OFFLINE: env['HF_HUB_OFFLINE'] ?? '1',
    PYTHONPATH: [...extra, pythonRoot, ...(inherited ? [inherited] : [])].join(path.delimiter),
    PYTHONUTF8: '1',
    // OpenMP threads that spin while they wait starve each other where cores are shared with anything
    // else (the server, another job): measured 26 s of CPU against 7 s for the same 512 tokens.
    OMP_WAIT_POLICY: env['OMP_WAIT_POLICY'] ?? 'PASSIVE',
  };
}
