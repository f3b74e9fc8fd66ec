// The package as strangers get it: what `npm pack` writes and the wheel, each installed in an empty folder and used from
// there. npm takes the packages that this checkout's lock file names from its cache, where `npm ci` has put them; those
// that are not there it downloads. Python packages are those of this checkout.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { packageRoot } from '../src/paths.ts';
import { readPage } from './docs/markdown.ts';
import { python } from './helpers/python.ts';

const version = (
  JSON.parse(readFileSync(path.join(packageRoot, 'package.json'), 'utf8')) as {
    version: string;
  }
).version;
const folder = mkdtempSync(path.join(tmpdir(), 'lockstep-packages-'));
/** Nothing of this checkout is named: no VIRTUAL_ENV, no PYTHON_BIN, no PYTHONPATH. */
const bare: NodeJS.ProcessEnv = {
  PATH: process.env['PATH'],
  HOME: folder,
  npm_config_cache: execFileSync('npm', ['config', 'get', 'cache'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim(),
  npm_config_prefer_offline: 'true',
  npm_config_update_notifier: 'false',
};

function run(command: string, args: string[], cwd: string, env: NodeJS.ProcessEnv = bare): string {
  return execFileSync(command, args, {
    cwd,
    env,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** Exit code, and both streams. */
function tried(command: string, args: string[], cwd: string): { code: number; text: string } {
  try {
    return { code: 0, text: run(command, args, cwd) };
  } catch (error) {
    const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string };
    return { code: status, text: stdout + stderr };
  }
}

const project = path.join(folder, 'project');
const unpacked = path.join(project, 'node_modules', 'lockstep');

beforeAll(() => {
  mkdirSync(project);
  run('npm', ['pack', '--ignore-scripts', '--pack-destination', project], packageRoot);
  writeFileSync(path.join(project, 'package.json'), '{"type": "module"}');
  // The versions of this checkout, so that npm needs no registry to choose them.
  const { packages } = JSON.parse(
    readFileSync(path.join(packageRoot, 'package-lock.json'), 'utf8'),
  ) as { packages: Record<string, { dev?: boolean }> };
  const kept = Object.entries(packages).filter(([name, { dev }]) => name !== '' && dev !== true);
  const lock = {
    lockfileVersion: 3,
    requires: true,
    packages: { '': {}, ...Object.fromEntries(kept) },
  };
  writeFileSync(path.join(project, 'package-lock.json'), JSON.stringify(lock));
  // The documented command, as it is.
  const block = readPage('docs/other-tools.md').blocks.find(({ info }) => info === 'sh');
  expect(block?.text).toContain(`npm install ./lockstep-${version}.tgz`);
  run('sh', ['-e', '-c', block?.text ?? ''], project);
}, 900_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('packs everything that its files refer to', () => {
  const half = path.join(unpacked, 'python');
  for (const name of readdirSync(half).filter((file) => file.endsWith('.txt'))) {
    for (const [, other] of readFileSync(path.join(half, name), 'utf8').matchAll(
      /^-[cr] (\S+)$/gm,
    )) {
      expect(existsSync(path.join(half, other ?? '')), `${name} refers to ${other}`).toBe(true);
    }
  }
  const half2 = path.join(half, 'lockstep', 'data');
  expect(readdirSync(half2)).toContain('quickjs-ng.wasm');
  expect(readdirSync(half2).some((name) => name.startsWith('policy-runtime'))).toBe(true);
  expect(existsSync(path.join(unpacked, 'src'))).toBe(false);
  for (const name of ['LICENSE', 'THIRD_PARTY.md', 'CHANGELOG.md', 'python/LICENSE']) {
    expect(existsSync(path.join(unpacked, name)), name).toBe(true);
  }
  // What a service is set up with. The images are built in a clone.
  const deploy = readdirSync(path.join(unpacked, 'deploy'));
  expect(deploy).toContain('lockstep.service');
  expect(deploy.filter((name) => name.startsWith('Containerfile'))).toEqual([]);
  // The documentation's site is built in a clone; it is no part of the package.
  // Of its folder the server gives away the description of its API alone.
  expect(readdirSync(path.join(unpacked, 'docs'))).toEqual(['openapi.json']);
});

it('runs from an empty folder, and its hints fit there', () => {
  expect(run('npx', ['lockstep', '--version'], project).trim()).toBe(version);
  writeFileSync(
    path.join(project, 'policy.mjs'),
    "import { fixed } from 'lockstep/policies';\nprocess.stdout.write(fixed({ size: 64 }).name);\n",
  );
  expect(run(process.execPath, ['policy.mjs'], project)).toBe('fixed');
  // No Python here has the requirements: the hint is one that can be followed from this folder.
  const empty = path.join(folder, 'no-python');
  mkdirSync(empty);
  const asked = tried(
    'npx',
    ['lockstep', 'doctor', '--python', path.join(empty, 'python3')],
    project,
  );
  expect(asked.code).not.toBe(0);
  expect(asked.text).not.toContain('npm run setup');
  const hint = asked.text.match(/pip install "([^"[]+)\[train\]" -c "([^"]+)"/);
  expect(hint, asked.text).not.toBeNull();
  for (const named of hint?.slice(1) ?? [])
    expect(existsSync(path.join(project, named))).toBe(true);
}, 600_000);

it('has types that a strict project takes, its declarations checked too', () => {
  // Beside what npm installed, the types of Node: no other types.
  const own = path.join(packageRoot, 'node_modules');
  for (const name of ['@types/node', 'undici-types']) {
    const to = path.join(project, 'node_modules', name);
    mkdirSync(path.dirname(to), { recursive: true });
    if (!existsSync(to)) symlinkSync(path.join(own, name), to);
  }
  writeFileSync(
    path.join(project, 'use.ts'),
    `import * as lockstep from 'lockstep';
import { defineConfig, definePolicy, segmentsOf, type LockstepServer } from 'lockstep';
import { fixed } from 'lockstep/policies';
const own = definePolicy({
  name: 'own',
  params: { every: 3 },
  start: () => ({ seen: 0 }),
  push: (state, _token, { params }) => (state.seen += 1) % params.every === 0,
});
export const cut: string[] = segmentsOf(own({ every: 2 }), ['a', 'b']);
export const policies = [own(), fixed({ size: 8 })];
export const port = (server: LockstepServer): Promise<{ port: number }> => server.listen(0);
// @ts-expect-error: a misspelled option is found.
export const wrong = own({ evry: 2 });
export const all = lockstep;
export default defineConfig({ model: 'm', out: 'o', policy: own(), segment: { max: 64 }, carry: { size: 8 } });
`,
  );
  const options = {
    target: 'ES2022',
    lib: ['ES2023'],
    module: 'NodeNext',
    moduleResolution: 'NodeNext',
    types: ['node'],
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    noEmit: true,
  };
  writeFileSync(
    path.join(project, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: options, include: ['use.ts'] }),
  );
  const tsc = path.join(own, 'typescript', 'bin', 'tsc');
  expect(tried(process.execPath, [tsc, '-p', project], project)).toEqual({ code: 0, text: '' });
}, 120_000);

it('builds a wheel that knows its version and its extras, from the packed files', () => {
  const wheels = path.join(folder, 'wheels');
  const pip = ['-m', 'pip', '--disable-pip-version-check', '--no-input'];
  const env = { ...bare, PIP_NO_INDEX: '1' };
  const half = path.join(unpacked, 'python');
  run(
    python,
    [...pip, 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', wheels, half],
    folder,
    env,
  );
  const [wheel] = readdirSync(wheels);
  expect(wheel).toBe(`lockstep-${version}-py3-none-any.whl`);
  const site = path.join(folder, 'site');
  run(
    python,
    [...pip, 'install', '-q', '--no-deps', '--target', site, path.join(wheels, wheel ?? '')],
    folder,
    env,
  );
  const program = `
import importlib.metadata as metadata, json, lockstep, sys
from lockstep.contract import planner, read
from lockstep.install import install
import lockstep.transformers
from transformers import AutoConfig
told = metadata.metadata("lockstep")
print(json.dumps({
    "file": lockstep.__file__, "version": lockstep.__version__, "hint": install("trl"),
    "extras": told.get_all("Provides-Extra"), "licenses": told.get_all("License-File"),
}))
`;
  // -s -P: neither this folder nor the user's own packages; the wheel stands before the checkout.
  const told = JSON.parse(
    run(python, ['-c', program], folder, { ...bare, PYTHONPATH: site, HF_HUB_OFFLINE: '1' })
      .trimEnd()
      .split('\n')
      .at(-1) ?? '',
  ) as { file: string; version: string; hint: string; extras: string[]; licenses: string[] };
  expect(told.file.startsWith(site)).toBe(true);
  expect(told.version).toBe(version);
  expect(told.extras).toEqual(expect.arrayContaining(['train', 'vllm', 'transformers', 'eval']));
  expect(told.licenses.sort()).toEqual(['LICENSE', 'NOTICE.md']);
  const installed = './node_modules/lockstep/python';
  expect(told.hint).toBe(
    `python -m pip install "${installed}[trl]" -c "${installed}/constraints.txt"`,
  );
}, 900_000);
