// A checkpoint folder that is whole or absent: built beside its place, renamed when it is done.
import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { LockstepError } from '../errors.ts';
import { systemProblem } from '../system-error.ts';

/**
 * Calls `build` with a new folder beside `out`; `build` fills it and puts it in place. Where it
 * fails, nothing is left of the folder.
 *
 * @throws `code` where the disk refuses, and what `build` throws
 */
export async function buildAtomically<T>(
  out: string,
  code: 'LS_ATTACH_WRITE' | 'LS_DETACH_WRITE',
  build: (building: string) => Promise<T>,
): Promise<T> {
  const building = `${out}.${randomUUID().slice(0, 8)}.tmp`;
  try {
    await mkdir(building, { recursive: true });
    return await build(building);
  } catch (cause) {
    // A failure to remove the folder is ignored: the first error is the one to report.
    await rm(building, { recursive: true, force: true }).catch(() => {});
    if (cause instanceof LockstepError) throw cause;
    throw new LockstepError(code, `expected to write ${out}, got ${systemProblem(cause)}`, {
      fix: 'Free disk space, or name a folder that you can write to with --out.',
      cause,
    });
  }
}
