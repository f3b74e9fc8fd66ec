// Files and folders near the working folder, found without going everywhere.
import type { Dirent } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';

/** Folders below the first one that are looked into, and entries that are looked at in all. */
const depth = 4;
const most = 20_000;

/** Hidden folders are left out, but for the one where Lockstep keeps fetched models and texts. */
const leftOut = (name: string): boolean =>
  name === 'node_modules' ||
  name === '__pycache__' ||
  (name.startsWith('.') && name !== '.lockstep');

export interface Folder {
  readonly path: string;
  readonly files: readonly string[];
}

/** A folder and those below it with the names of their files; the nearest first. */
export async function foldersBelow(root: string): Promise<Folder[]> {
  const found: Folder[] = [];
  let seen = 0;
  /** Links may lead round in circles. */
  const visited = new Set<string>();
  let level = [root];
  for (let down = 0; down <= depth && level.length > 0; down++) {
    const next: string[] = [];
    for (const folder of level.sort()) {
      const real = await realpath(folder).catch(() => folder);
      if (visited.has(real)) continue;
      visited.add(real);
      const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
      seen += entries.length;
      if (seen > most) return found;
      const files: string[] = [];
      for (const entry of entries) {
        if (!(await isFolder(folder, entry))) files.push(entry.name);
        else if (!leftOut(entry.name)) next.push(path.join(folder, entry.name));
      }
      found.push({ path: folder, files: files.sort() });
    }
    level = next;
  }
  return found;
}

/** A folder, or a link to one: models are often linked into a project. */
async function isFolder(parent: string, entry: Dirent): Promise<boolean> {
  if (!entry.isSymbolicLink()) return entry.isDirectory();
  const target = await stat(path.join(parent, entry.name)).catch(() => null);
  return target?.isDirectory() === true;
}
