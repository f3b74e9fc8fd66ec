import { mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { lockFolder } from './lock.ts';

let folder: string;
afterEach(() => rm(folder, { recursive: true, force: true }));

/** The socket of a process that was killed. */
async function leaveSocket(name: string): Promise<void> {
  const server = net.createServer();
  const other = path.join(folder, 'other');
  await new Promise<void>((resolve) => server.listen(other, resolve));
  await rename(other, path.join(folder, name));
  await new Promise((resolve) => server.close(resolve));
}

/** Ask for the folder this often at once; how many got it. */
async function race(count: number) {
  const asked = await Promise.allSettled(Array.from({ length: count }, () => lockFolder(folder)));
  const refused = asked.flatMap((one) => (one.status === 'rejected' ? one.reason.code : []));
  const held = asked.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
  return { held, refused };
}

describe('lockFolder', () => {
  it('gives a folder to one of many that ask at once, also where others were killed', async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'ls-lock-'));
    for (let round = 0; round < 5; round++) {
      await leaveSocket('lock');
      await leaveSocket('lock-0000000a');
      const { held, refused } = await race(6);
      expect(held).toHaveLength(1);
      expect(refused).toEqual(Array.from({ length: 5 }, () => 'LS_BATCH_LOCK'));
      // It stays held, and is free again afterwards.
      await expect(lockFolder(folder)).rejects.toMatchObject({ code: 'LS_BATCH_LOCK' });
      await held[0]?.();
      expect(await readdir(folder)).toEqual([]);
    }
  });
});
