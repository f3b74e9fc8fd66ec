// The model of test/python/make_tiny.py, made once in a run of the tests: to make it, Python imports PyTorch.
import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { inject } from 'vitest';
import { findPython, pythonEnvironment } from '../src/bridge/index.ts';

/** Options of `make_tiny.write`. */
export interface TinyOptions {
  seed?: number;
  layers?: number;
  kv_heads?: number;
  group?: number;
  head_dim?: number;
  hidden?: number;
  tied?: boolean;
}

/** Write the checkpoint folder `to`, which must not exist: the same options give the same bytes. */
export async function tinyModel(to: string, options: TinyOptions = {}): Promise<string> {
  const sorted = Object.entries(options).sort(([a], [b]) => (a < b ? -1 : 1));
  const given = JSON.stringify(Object.fromEntries(sorted));
  const shared = path.join(
    inject('sharedFolder'),
    `tiny-${createHash('sha256').update(given).digest('hex').slice(0, 16)}`,
  );
  if (!existsSync(shared)) await make(shared, given);
  mkdirSync(path.dirname(to), { recursive: true });
  cpSync(shared, to, { recursive: true, errorOnExist: true, force: false });
  return to;
}

/** Another test file may make the same at the same time: whoever is first is taken. */
async function make(shared: string, given: string): Promise<void> {
  const python = await findPython();
  const building = `${shared}.${randomUUID().slice(0, 8)}`;
  const program =
    'import json, runpy, sys; runpy.run_path(sys.argv[1])["write"](sys.argv[2], **json.loads(sys.argv[3]))';
  const script = path.join(import.meta.dirname, 'python', 'make_tiny.py');
  await promisify(execFile)(python.executable, ['-c', program, script, building, given], {
    env: { ...pythonEnvironment(), OMP_NUM_THREADS: '1' },
  });
  try {
    renameSync(building, shared);
  } catch (error) {
    if (!existsSync(shared)) throw error;
    rmSync(building, { recursive: true });
  }
}
