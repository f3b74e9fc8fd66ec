import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LockstepError } from '../errors.ts';
import { packageRoot, pythonRoot } from '../paths.ts';
import { findPython, pythonEnvironment } from './python.ts';

let folder: string;
let real: string;

/** A stand-in interpreter that reports what it is told to report. */
function fakePython(
  file: string,
  version: string,
  modules: Record<string, string> = { torch: '1' },
): string {
  mkdirSync(path.dirname(file), { recursive: true });
  const report = JSON.stringify({
    executable: file,
    version: version.split('.').map(Number),
    modules,
  });
  writeFileSync(file, `#!/bin/sh\necho banner\necho '${report}'\n`);
  chmodSync(file, 0o755);
  return file;
}
const failure = async (work: Promise<unknown>): Promise<LockstepError> =>
  work.then(
    (value) => {
      throw new Error(`expected a failure, got ${JSON.stringify(value)}`);
    },
    (error) => error as LockstepError,
  );

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'lockstep-python-'));
  real = (await findPython()).executable;
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('findPython', () => {
  it('finds an interpreter of this checkout that has the requirements', async () => {
    const found = await findPython({ env: { PATH: process.env['PATH'] } });
    expect(found.version).toMatch(/^3\.(1[1-9]|[2-9]\d)\.\d+$/);
    expect(Object.keys(found.modules)).toContain('torch');
    expect(found.modules['wasmtime']).toMatch(/^\d/);
    expect(found.tried.at(-1)).toMatchObject({ problem: null });
  });

  it('asks --python, PYTHON_BIN, VIRTUAL_ENV, the nearest .venv, PATH, in this order', async () => {
    const modules = ['torch'];
    const cwd = path.join(folder, 'project', 'deep', 'down');
    mkdirSync(cwd, { recursive: true });
    const argument = fakePython(path.join(folder, 'a', 'python'), '3.11.1');
    const bin = fakePython(path.join(folder, 'b', 'python'), '3.12.1');
    fakePython(path.join(folder, 'c', 'bin', 'python'), '3.12.2');
    fakePython(path.join(folder, 'project', '.venv', 'bin', 'python'), '3.12.3');
    const env = { PATH: process.env['PATH'], PYTHON_BIN: bin, VIRTUAL_ENV: path.join(folder, 'c') };
    expect(await findPython({ python: argument, cwd, env, modules })).toMatchObject({
      source: '--python',
      version: '3.11.1',
    });
    expect(await findPython({ cwd, env, modules })).toMatchObject({
      source: 'PYTHON_BIN',
      version: '3.12.1',
    });
    const { PYTHON_BIN: _bin, ...active } = env;
    expect(await findPython({ cwd, env: active, modules })).toMatchObject({
      source: 'VIRTUAL_ENV',
      version: '3.12.2',
    });
    const { VIRTUAL_ENV: _env, ...plain } = active;
    expect(await findPython({ cwd, env: plain, modules })).toMatchObject({
      source: '.venv',
      version: '3.12.3',
    });
  });

  it('never passes over what the user named', async () => {
    const missing = await failure(findPython({ python: '/nowhere/python' }));
    expect(missing.code).toBe('LS_PYTHON_NOT_FOUND');
    expect(missing.message).toContain('/nowhere/python');
    expect(missing.fix).toContain('npm run setup');
    const env = { PATH: process.env['PATH'], PYTHON_BIN: '/nowhere/python' };
    expect(await failure(findPython({ env }))).toMatchObject({ code: 'LS_PYTHON_NOT_FOUND' });
  });

  it('passes over an active environment that lacks packages, and says so', async () => {
    const cwd = path.join(folder, 'second');
    fakePython(path.join(folder, 'bare', 'bin', 'python'), '3.12.0', {});
    fakePython(path.join(cwd, '.venv', 'bin', 'python'), '3.12.9');
    const env = { PATH: process.env['PATH'], VIRTUAL_ENV: path.join(folder, 'bare') };
    const found = await findPython({ cwd, env, modules: ['torch'] });
    expect(found.version).toBe('3.12.9');
    expect(found.tried[0]?.problem).toContain('torch');
  });

  it('refuses an old Python and names the missing modules', async () => {
    const old = fakePython(path.join(folder, 'old', 'python'), '3.10.12');
    expect(await failure(findPython({ python: old, modules: ['torch'] }))).toMatchObject({
      code: 'LS_PYTHON_VERSION',
    });
    const lacking = await failure(
      findPython({ python: real, modules: ['json', 'no_such_module'] }),
    );
    expect(lacking.code).toBe('LS_PYTHON_PACKAGES');
    expect(lacking.message).toMatch(/no_such_module$/);
  });

  it('lists everything it tried when nothing fits', async () => {
    const env = { PATH: '/nowhere', VIRTUAL_ENV: '/nowhere/venv' };
    const error = await failure(findPython({ cwd: '/', env, modules: ['no_such_module'] }));
    expect(error.message).toContain('VIRTUAL_ENV');
    expect(error.message).toContain(path.join(packageRoot, '.venv'));
    expect(error.message).toContain('python3 (PATH)');
    expect(error.code).toBe('LS_PYTHON_PACKAGES');
  });
});

describe('pythonEnvironment', () => {
  it('puts the package first on PYTHONPATH and keeps what was there', () => {
    const env = pythonEnvironment({ PYTHONPATH: '/mine' }, ['/extra']);
    expect(env['PYTHONPATH']).toBe(['/extra', pythonRoot, '/mine'].join(path.delimiter));
    expect(pythonEnvironment({})['OMP_WAIT_POLICY']).toBe('PASSIVE');
    expect(pythonEnvironment({ OMP_WAIT_POLICY: 'ACTIVE' })['OMP_WAIT_POLICY']).toBe('ACTIVE');
    expect(pythonEnvironment({})['PYTHONPATH']).toBe(pythonRoot);
  });
});
