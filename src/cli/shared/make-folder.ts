// Makes a folder and its parents.
import { mkdir, stat } from 'node:fs/promises';
import path from 'node:path';

/**
 * `mkdir -p`. Node's own `recursive` tries for ever where a file system answers ENOENT to whatever
 * is made in it, as /proc does.
 *
 * @throws what `mkdir` throws; ENOTDIR where a file has the name of a folder
 */
export async function makeFolder(dir: string): Promise<void> {
  const make = async (): Promise<void> => {
    try {
      await mkdir(dir);
    } catch (error) {
      const there = await stat(dir).catch(() => null);
      if (there?.isDirectory()) return;
      if (there !== null) throw Object.assign(new Error('ENOTDIR'), { code: 'ENOTDIR' });
      throw error;
    }
  };
  try {
    await make();
  } catch (error) {
    const parent = path.dirname(dir);
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || parent === dir) throw error;
    if ((await stat(parent).catch(() => null)) !== null) throw error;
    await makeFolder(parent);
    await make();
  }
}
