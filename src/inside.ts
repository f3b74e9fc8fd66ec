// Files that a checkpoint names must lie in its folder: a name with a path in it, or a link that leads
// out, would have this user's other files read.
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { LockstepError } from './errors.ts';

/** Whether a name is that of a file beside the one it stands in: no folder, no `..`, no drive. */
export function isPlainName(name: unknown): name is string {
  return (
    typeof name === 'string' &&
    name !== '' &&
    name !== '.' &&
    name !== '..' &&
    name.length <= 255 &&
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they have no place in a name either
    !/[/\\:\u0000-\u001f]/.test(name)
  );
}

/**
 * Refuse a file of a checkpoint that is a link out of the checkpoint's folder. A Hugging Face cache is
 * made of links, from `snapshots/REVISION` to `blobs`: these are followed. A missing file
 * passes: the code that reads it reports it.
 *
 * @param dir the checkpoint's folder
 * @param file a path below it
 * @throws LS_CHECKPOINT_LINK
 */
export async function checkInside(dir: string, file: string): Promise<void> {
  const [folder, target] = await Promise.all([
    realpath(dir).catch(() => null),
    realpath(file).catch(() => null),
  ]);
  if (folder === null || target === null) return;
  if (isBelow(folder, target)) return;
  const snapshots = path.dirname(folder);
  const blobs = path.join(path.dirname(snapshots), 'blobs');
  if (path.basename(snapshots) === 'snapshots' && isBelow(blobs, target)) return;
  throw new LockstepError(
    'LS_CHECKPOINT_LINK',
    `expected ${file} to be inside ${dir}, got a link to a file outside of it`,
    { fix: 'Put a copy of the file in its place, if you know what it is.' },
  );
}

/**
 * Whether a path is a folder or lies in it, links followed. What does not exist yet lies where its
 * folder does.
 */
export async function isInside(folder: string, file: string): Promise<boolean> {
  const [outer, inner] = await Promise.all([realPlace(folder), realPlace(file)]);
  return inner === outer || isBelow(outer, inner);
}

async function realPlace(file: string): Promise<string> {
  const absolute = path.resolve(file);
  const found = await realpath(absolute).catch(() => null);
  if (found !== null) return found;
  const parent = path.dirname(absolute);
  return parent === absolute
    ? absolute
    : path.join(await realPlace(parent), path.basename(absolute));
}

function isBelow(folder: string, file: string): boolean {
  return file.startsWith(folder.endsWith(path.sep) ? folder : folder + path.sep);
}
