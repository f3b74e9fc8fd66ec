// Where `lockstep train` puts the model that a training starts from: a folder beside `out`.
import { readdir, rm } from 'node:fs/promises';
import path from 'node:path';

/**
 * A name for this process's folder; those of killed processes are removed.
 *
 * @returns the path, where nothing is yet
 */
export async function stagingFolder(out: string): Promise<string> {
  const parent = path.dirname(out);
  const prefix = `.${path.basename(out)}.start-`;
  // What `attach` makes on its way to NAME is called NAME.01234567.tmp or .old.
  const rest = /^(\d+)(\.[0-9a-f]{8}\.(tmp|old))?$/;
  for (const name of await readdir(parent).catch(() => [])) {
    const found = name.startsWith(prefix) ? rest.exec(name.slice(prefix.length)) : null;
    if (found === null || alive(Number(found[1]))) continue;
    await rm(path.join(parent, name), { recursive: true, force: true });
  }
  return path.join(parent, prefix + process.pid);
}

function alive(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
