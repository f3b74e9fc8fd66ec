// Before all tests: a Python that starts fast, in PYTHON_BIN. Afterwards it is gone.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { findPython } from '../../src/bridge/index.ts';
import { startWarmPython } from './index.ts';

export default async function setup(): Promise<(() => Promise<void>) | undefined> {
  if (process.platform !== 'linux') return undefined;
  const folder = mkdtempSync(path.join(tmpdir(), 'lockstep-warm-'));
  const { executable } = await findPython();
  const warm = await startWarmPython(executable, folder);
  process.env['PYTHON_BIN'] = warm.executable;
  return async () => {
    await warm.stop();
    rmSync(folder, { recursive: true, force: true });
  };
}
