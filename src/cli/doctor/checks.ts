// What lockstep doctor looks at, one check after the other; nothing here changes anything.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { findPython, type Python, pythonEnvironment } from '../../bridge/index.ts';
import { type InstalledVllm, installedVllm } from '../../engines/vllm/version.ts';
import { isClone, packageRoot, pythonRoot, setUpCommand } from '../../paths.ts';
import { engineName, engineSha256, loadEngine } from '../../planner/index.ts';
import { asLockstepError } from '../shared/output.ts';

export interface Check {
  name: string;
  /** `missing` fails the whole; `warning` and `optional` do not. */
  status: 'ok' | 'warning' | 'missing' | 'optional';
  detail: string;
  /** The command or step that fixes it. */
  fix?: string;
}

export interface Diagnosis {
  ok: boolean;
  checks: Check[];
  /** Where Python was looked for and what was taken. */
  python: Pick<Python, 'executable' | 'version' | 'source' | 'tried'> | null;
  versions: Record<string, string>;
}

const setup = setUpCommand();
const gigabyte = 1e9;

/** Run all checks. Never throws: what cannot be looked at is a check that failed. */
export async function diagnose(python: string | undefined): Promise<Diagnosis> {
  const versions: Record<string, string> = { node: process.versions.node };
  const checks: Check[] = [node(), ...npmPackages(versions), policyEngine(versions)];
  let found: Python | null = null;
  try {
    found = await findPython({ python });
    versions['python'] = found.version;
    checks.push({
      name: 'Python',
      status: 'ok',
      detail: `${found.version} at ${found.executable} (from ${found.source})`,
    });
    checks.push(...(await pythonPackages(found, versions)), await vllm(found, versions));
  } catch (error) {
    const { message, fix } = asLockstepError(error);
    checks.push({ name: 'Python', status: 'missing', detail: message, fix: fix ?? setup });
  }
  checks.push(...inputs(), disk(), memory());
  return {
    ok: checks.every((check) => check.status !== 'missing'),
    checks,
    python: found && {
      executable: found.executable,
      version: found.version,
      source: found.source,
      tried: found.tried,
    },
    versions,
  };
}

function node(): Check {
  const version = process.versions.node;
  const ok = Number(version.split('.')[0]) >= 20;
  return {
    name: 'Node',
    status: ok ? 'ok' : 'missing',
    detail: ok ? version : `expected 20 or newer, got ${version}`,
    ...(ok ? {} : { fix: 'Install Node 20 or newer' }),
  };
}

/** The packages with native parts are loaded: a folder alone does not prove that they run here. */
function npmPackages(versions: Record<string, string>): Check[] {
  const require = createRequire(import.meta.url);
  const own = JSON.parse(readFileSync(path.join(packageRoot, 'package.json'), 'utf8')) as {
    version: string;
  };
  versions['lockstep'] = own.version;
  return ['onnxruntime-node', 'tokenizers', 'esbuild', 'pythonia'].map((name): Check => {
    try {
      const manifest = path.join(packageFolder(name, require), 'package.json');
      const { version } = JSON.parse(readFileSync(manifest, 'utf8')) as { version: string };
      versions[name] = version;
      // Loading pythonia starts an interpreter: that is not for a check.
      if (name !== 'pythonia') require(name);
      return { name, status: 'ok', detail: version };
    } catch (error) {
      const reason = firstLine(error);
      return {
        name,
        status: 'missing',
        detail: `expected to load it, got: ${reason}`,
        fix: setup,
      };
    }
  });
}

/** Node and Python run policies in one engine: the same bytes, in two places. */
function policyEngine(versions: Record<string, string>): Check {
  const name = 'policy engine';
  versions[name] = engineName.split(' ').at(-1) as string;
  try {
    loadEngine();
    const file = path.join(pythonRoot, 'lockstep', 'data', 'quickjs-ng.wasm');
    const actual = createHash('sha256').update(readFileSync(file)).digest('hex');
    if (actual !== engineSha256) throw new Error(`Python's copy is another one (${actual})`);
    return { name, status: 'ok', detail: `${engineName}, the same bytes in Node and in Python` };
  } catch (error) {
    const reason = firstLine(error);
    return {
      name,
      status: 'missing',
      detail: `expected ${engineName} (${engineSha256.slice(0, 12)}…), got: ${reason}`,
      fix: existsSync(path.join(packageRoot, 'src')) ? 'npm run build' : 'install Lockstep again',
    };
  }
}

/** Folder of an installed package, whether or not its exports map shows package.json. */
function packageFolder(name: string, require: NodeJS.Require): string {
  const folder = (require.resolve.paths(name) ?? [])
    .map((modules) => path.join(modules, name))
    .find((candidate) => existsSync(path.join(candidate, 'package.json')));
  if (folder === undefined) throw new Error(`${name} is not installed`);
  return folder;
}

const script = `
import importlib, importlib.metadata as metadata, json, sys
out = {}
for module, distribution in json.loads(sys.argv[1]).items():
    try:
        importlib.import_module(module)
        out[module] = {"version": metadata.version(distribution)}
    except Exception as error:
        out[module] = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps(out))
`;

/** Packages that one thing alone needs. */
const optional: Readonly<Record<string, string>> = {
  onnx: '`lockstep export`',
  onnxruntime: '`lockstep export`',
  matplotlib: 'a plot as PNG',
  peft: '`lockstep train` with `training.lora`',
  pyarrow: 'data in Parquet and Arrow',
};
const looked = [
  'torch',
  'transformers',
  'tokenizers',
  'safetensors',
  'numpy',
  'wasmtime',
  'rfc8785',
  'jsonschema',
  'onnx',
  'onnxruntime',
  'matplotlib',
  'peft',
  'pyarrow',
];

async function pythonPackages(python: Python, versions: Record<string, string>): Promise<Check[]> {
  const wanted = Object.fromEntries(looked.map((name) => [name, name]));
  const pins = pinned();
  let found: Record<string, { version?: string; error?: string }>;
  try {
    found = JSON.parse(await run(python.executable, ['-c', script, JSON.stringify(wanted)]));
  } catch (error) {
    const reason = firstLine(error);
    return [
      {
        name: 'Python packages',
        status: 'missing',
        detail: `expected to import them, got: ${reason}`,
        fix: setup,
      },
    ];
  }
  return Object.entries(wanted).map(([module, name]): Check => {
    const { version, error } = found[module] ?? {};
    if (version === undefined) {
      const use = optional[name];
      const needed = use === undefined ? '' : ` for ${use}`;
      return {
        name: `${name} (Python)`,
        status: use === undefined ? 'missing' : 'optional',
        detail: `expected to import ${module}${needed}, got ${error}`,
        fix: setup,
      };
    }
    versions[`python:${name}`] = version;
    const pin = pins[name];
    // +cpu and +cu130 name builds of one version.
    const same = pin === undefined || version.split('+')[0] === pin;
    return {
      name: `${name} (Python)`,
      status: same ? 'ok' : 'warning',
      detail: same ? version : `expected ${pin}, got ${version}`,
      ...(same ? {} : { fix: setup }),
    };
  });
}

/** vLLM and Lockstep's plugin in it, by their metadata: importing vLLM takes many seconds. */
async function vllm(python: Python, versions: Record<string, string>): Promise<Check> {
  const name = 'vLLM';
  const fix = setUpCommand('vllm');
  let found: InstalledVllm;
  try {
    found = await installedVllm(python);
  } catch (error) {
    const reason = firstLine(error);
    return { name, status: 'optional', detail: `expected to look for it, got: ${reason}`, fix };
  }
  if (found.version === null) {
    return { name, status: 'optional', detail: 'not installed: --engine vllm needs it', fix };
  }
  versions['python:vllm'] = found.version;
  versions['vllm:runner'] = found.runner;
  const detail = `${found.name} ${found.version}`;
  if (found.error !== undefined) {
    return {
      name,
      status: 'warning',
      detail: found.error.message,
      fix: found.error.fix ?? fix,
    };
  }
  if (!found.plugin) {
    const lacks = `expected the plugin lockstep in ${detail}, got none`;
    return { name, status: 'warning', detail: lacks, fix };
  }
  if (found.runner === 'V2') {
    const asked = `expected ${detail} with Model Runner V1, got VLLM_USE_V2_MODEL_RUNNER`;
    return { name, status: 'warning', detail: asked, fix: 'Unset it: V2 is refused' };
  }
  return {
    name,
    status: 'ok',
    detail: `${detail}, Model Runner ${found.runner}, with the plugin lockstep`,
  };
}

/** Of what an error says. */
function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0] as string;
}

function pinned(name = 'requirements.txt'): Record<string, string> {
  const file = path.join(pythonRoot, name);
  if (!existsSync(file)) return {};
  const pins = readFileSync(file, 'utf8').matchAll(/^([\w.-]+)==([^\s;]+)/gm);
  return Object.fromEntries([...pins].map((match) => [match[1], match[2]]));
}

function run(executable: string, args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const env = pythonEnvironment();
    execFile(executable, args, { env, timeout: 300_000 }, (error, stdout) =>
      error ? reject(error) : resolve(stdout.trimEnd().split('\n').at(-1) ?? ''),
    );
  });
}

/** The quickstart's model and texts: needed in a checkout, where `npm start` runs it. */
function inputs(): Check[] {
  const absent = isClone ? 'missing' : 'optional';
  const data = path.join(packageRoot, '.lockstep');
  const check = (name: string, folder: string, files: string[]): Check => {
    const lacking = files.find((file) => !existsSync(path.join(data, folder, file)));
    const shown = path.join('.lockstep', folder);
    if (lacking === undefined) return { name, status: 'ok', detail: shown };
    const detail = `expected ${path.join(shown, lacking)}, got no file`;
    return { name, status: absent, detail, fix: setup };
  };
  return [
    check('model', path.join('models', 'smollm2-135m-instruct'), [
      'config.json',
      'tokenizer.json',
      'model.safetensors',
    ]),
    check('texts', 'texts', [path.join('milton', 'paradiselost.txt'), 'shakespeare']),
  ];
}

function disk(): Check {
  const { bavail, bsize } = statfsSync(packageRoot);
  const free = (bavail * bsize) / gigabyte;
  const detail = `${free.toFixed(1)} GB free`;
  // A trained SmolLM2 and its exported graph take 1.3 GB.
  if (free >= 2) return { name: 'disk', status: 'ok', detail };
  const fix = 'free some space: a trained checkpoint and its exported graph take 1.3 GB';
  return { name: 'disk', status: free < 0.1 ? 'missing' : 'warning', detail, fix };
}

function memory(): Check {
  const total = os.totalmem() / gigabyte;
  const detail = `${total.toFixed(1)} GB, ${os.availableParallelism()} processors`;
  if (total >= 3.5) return { name: 'memory', status: 'ok', detail };
  return { name: 'memory', status: 'warning', detail, fix: 'Training SmolLM2 takes about 3 GB' };
}
