// Files beside the weights that a checkpoint made of another takes along.
import { copyFile, lstat, mkdir } from 'node:fs/promises';
import path from 'node:path';

/** Copy a file of `from`, a path below it, to the same place in `to`; nothing where there is none. */
export async function copySidecarFile(from: string, to: string, name: string): Promise<void> {
  const file = path.join(from, name);
  if ((await lstat(file).catch(() => null)) === null) return;
  const place = path.join(to, name);
  await mkdir(path.dirname(place), { recursive: true });
  await copyFile(file, place);
}
