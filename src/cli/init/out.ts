// The folder for the trained checkpoint: one that a training may fill.
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { contractFile } from '../../checkpoint/index.ts';
import { LockstepError } from '../../errors.ts';
import { isInside } from '../../inside.ts';

/** What a folder has that a training may continue or replace. */
const ours = [contractFile, path.join('training', 'state.json')];

/**
 * Refuse a folder that a training would refuse, or would fill around what it reads.
 *
 * @param out absolute
 * @throws LS_INIT_OUT
 */
export async function checkOut(
  out: string,
  { data, model, config }: { data: readonly string[]; model: string; config: string },
): Promise<void> {
  if (await isInside(out, model)) throw outError(out, `the folder of the model, ${model}`);
  if (await isInside(out, config)) throw outError(out, 'the folder of the config');
  for (const file of data) {
    if (await isInside(out, file))
      throw outError(out, `the folder of the data, with ${path.basename(file)}`);
  }
  const there = await stat(out).catch(() => null);
  if (there === null) return;
  if (!there.isDirectory()) throw outError(out, 'a file');
  const names = await readdir(out).catch(() => []);
  if (names.length === 0) return;
  for (const name of ours) {
    if ((await stat(path.join(out, name)).catch(() => null)) !== null) return;
  }
  throw outError(out, `other files, such as ${names[0]}`);
}

function outError(out: string, got: string): LockstepError {
  return new LockstepError(
    'LS_INIT_OUT',
    `expected a folder of its own for the trained checkpoint at ${out}, got ${got}`,
    { fix: 'Name a folder that does not exist yet, such as: --out runs/mine', field: 'out' },
  );
}
