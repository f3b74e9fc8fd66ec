// Before all tests: a Python that starts fast, in PYTHON_BIN (Linux alone). Afterwards it is gone.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { findPython, pythonEnvironment } from '../../src/bridge/index.ts';

export default async function setup(): Promise<(() => Promise<void>) | undefined> {
  if (process.platform !== 'linux') return undefined;
  const folder = mkdtempSync(path.join(tmpdir(), 'lockstep-warm-'));
  const { executable } = await findPython();
  const child = spawn(executable, [path.join(import.meta.dirname, 'server.py'), folder], {
    env: pythonEnvironment(),
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const closed = once(child, 'close');
  await ready(child);
  process.env['LOCKSTEP_REAL_PYTHON'] = executable;
  process.env['PYTHON_BIN'] = path.join(folder, 'python');
  return async () => {
    child.stdin?.end();
    await closed;
    rmSync(folder, { recursive: true, force: true });
  };
}

async function ready(child: ChildProcess): Promise<void> {
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    if (line === 'ready') return;
  }
  throw new Error('expected the warm Python to print `ready`, got its end');
}
