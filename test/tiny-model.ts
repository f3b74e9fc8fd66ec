// The model of test/python/make_tiny.py, made once in a run of the tests: to make it, Python imports PyTorch.
import { createHash, randomUUID } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { inject } from 'vitest';
import { type TinyOptions, writeTinyModel } from './serve-tiny.ts';

/** Write the checkpoint folder `to`, which must not exist: the same options give the same bytes. */
export async function tinyModel(to: string, options: TinyOptions = {}): Promise<string> {
  const sorted = Object.entries(options).sort(([a], [b]) => (a < b ? -1 : 1));
  const given = JSON.stringify(Object.fromEntries(sorted));
  const shared = path.join(
    inject('sharedFolder'),
    `tiny-${createHash('sha256').update(given).digest('hex').slice(0, 16)}`,
  );
  if (!existsSync(shared)) await make(shared, options);
  mkdirSync(path.dirname(to), { recursive: true });
  cpSync(shared, to, { recursive: true, errorOnExist: true, force: false });
  return to;
}

/** Another test file may make the same at the same time: whoever is first is taken. */
async function make(shared: string, options: TinyOptions): Promise<void> {
  const building = `${shared}.${randomUUID().slice(0, 8)}`;
  await writeTinyModel(building, options);
  try {
    renameSync(building, shared);
  } catch (error) {
    if (!existsSync(shared)) throw error;
    rmSync(building, { recursive: true });
  }
}
