// Makes a folder and its parents.
import { mkdir, stat } from 'node:fs/promises';
import path from 'node:path';

/**
 * `mkdir -p`. Node's own `recursive` tries for ever where a file system answers ENOENT to whatever
 * is made in it, as /proc does.
 *
 * @throws what `mkdir` throws; EEXIST where a file has the name
 */
export async function makeFolder(dir: string): Promise<void> {
  const make = async (): Promise<void> => {
    try {
      await mkdir(dir);
    } catch (error) {
      if ((await stat(dir).catch(() => null))?.isDirectory()) return;
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
