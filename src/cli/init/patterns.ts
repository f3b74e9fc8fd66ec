// Files that a pattern names, as Python's `glob` finds them: that is what the trainer asks.
import type { Dirent } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';

/** Entries of folders that are looked at for one pattern. */
const most = 100_000;

const magic = /[*?[]/;

/**
 * The files and folders that a path or a pattern names, sorted. A name that exists is that file's, whatever
 * characters it has; hidden files match only what begins with a dot.
 *
 * @param pattern absolute
 */
export async function matching(pattern: string): Promise<string[]> {
  if (await exists(pattern)) return [pattern];
  const { root } = path.parse(pattern);
  const parts = pattern.slice(root.length).split(path.sep).filter(Boolean);
  const walk = new Walk();
  let found = [root];
  for (const [at, part] of parts.entries()) {
    const last = at === parts.length - 1;
    const next: string[] = [];
    for (const one of found) {
      if (part === '**') next.push(...(await walk.below(one, last)));
      else if (magic.test(part)) next.push(...(await walk.inside(one, part)));
      else next.push(path.join(one, part));
    }
    found = [...new Set(next)];
  }
  const there = await Promise.all(found.map(exists));
  return found.filter((_, i) => there[i]).sort();
}

class Walk {
  #seen = 0;

  /** Entries of a folder that a part of a pattern names. */
  async inside(folder: string, part: string): Promise<string[]> {
    const wanted = expression(part);
    const entries = await this.#entries(folder);
    return entries
      .filter(({ name }) => wanted.test(name) && (part.startsWith('.') || !name.startsWith('.')))
      .map(({ name }) => path.join(folder, name));
  }

  /** A folder and all below it, with their files where `files` says so; links are followed once. */
  async below(folder: string, files: boolean, visited = new Set<string>()): Promise<string[]> {
    const real = await realpath(folder).catch(() => folder);
    if (visited.has(real)) return [];
    visited.add(real);
    const found = [folder];
    for (const entry of await this.#entries(folder)) {
      if (entry.name.startsWith('.')) continue;
      const full = path.join(folder, entry.name);
      if (await isFolder(full, entry)) found.push(...(await this.below(full, files, visited)));
      else if (files) found.push(full);
    }
    return found;
  }

  async #entries(folder: string): Promise<Dirent[]> {
    if (this.#seen > most) return [];
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    this.#seen += entries.length;
    return entries;
  }
}

/** Of one part of a pattern: `*`, `?`, `[abc]`, `[!abc]`. */
function expression(part: string): RegExp {
  const source = part.replace(/\[(!?)(\]?[^\]]*)\]|[\s\S]/g, (text, not?: string, set?: string) => {
    if (set !== undefined) return `[${not === '!' ? '^' : ''}${set.replace(/[\\\]^[]/g, '\\$&')}]`;
    if (text === '*') return '.*';
    return text === '?' ? '.' : text.replace(/[\\^$.|+()[\]{}]/g, '\\$&');
  });
  return new RegExp(`^${source}$`, 'su');
}

async function isFolder(full: string, entry: Dirent): Promise<boolean> {
  if (!entry.isSymbolicLink()) return entry.isDirectory();
  return (await stat(full).catch(() => null))?.isDirectory() === true;
}

async function exists(file: string): Promise<boolean> {
  return (await stat(file).catch(() => null)) !== null;
}
