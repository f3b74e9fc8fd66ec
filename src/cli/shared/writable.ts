// Minutes of measuring are not spent on a file that cannot be written.
import { randomUUID } from 'node:crypto';
import { rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { makeFolder } from './make-folder.ts';

/** Make the file's folder and try to write there; rejects with what the file system says. */
export async function checkWritable(file: string): Promise<void> {
  const named = await stat(file).catch(() => null);
  if (named?.isDirectory()) throw Object.assign(new Error('EISDIR'), { code: 'EISDIR' });
  await makeFolder(path.dirname(file));
  // A name that no file of the user's has.
  const trial = `${file}.${randomUUID().slice(0, 8)}.tmp`;
  await writeFile(trial, '', { flag: 'wx' });
  await rm(trial);
}
