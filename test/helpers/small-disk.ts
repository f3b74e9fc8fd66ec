// A disk that is soon full: a small tmpfs, where this user may mount one.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Whether a small file system can be mounted here. */
export function canMount(): boolean {
  const probe = path.join(os.tmpdir(), `ls-mount-${process.pid}`);
  try {
    const unmount = mountSmall(probe, '64k');
    unmount();
    return true;
  } catch {
    return false;
  } finally {
    rmSync(probe, { recursive: true, force: true });
  }
}

/** Mount a disk of this size on a folder. @returns what unmounts it */
export function mountSmall(folder: string, size: string): () => void {
  mkdirSync(folder, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', folder], {
    stdio: 'ignore',
  });
  return () => execFileSync('umount', [folder]);
}

/** Leave no room on the disk of a folder. */
export function fillDisk(folder: string): void {
  try {
    for (let i = 0; ; i++) writeFileSync(path.join(folder, `filler-${i}`), Buffer.alloc(4096));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  }
}
