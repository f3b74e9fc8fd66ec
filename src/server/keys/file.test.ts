import {
  chmodSync,
  chownSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { canMount, fillDisk, mountSmall } from '../../../test/helpers/small-disk.ts';
import { changeKeys, readKeys } from './file.ts';
import { newKey } from './secret.ts';

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'lockstep-keys-'));
  file = path.join(folder, 'keys.json');
});
afterEach(() => rmSync(folder, { recursive: true }));

async function add(name: string): Promise<void> {
  const { id, hash } = await newKey();
  await changeKeys(file, (all) => [...all, { name, id, hash, created: '2026-11-30T00:00:00Z' }]);
}

const owner = (of: string) => {
  const { uid, gid, mode } = statSync(of);
  return { uid, gid, mode: mode & 0o777 };
};

describe('what stands in the file', () => {
  it.each([
    ['no text in UTF-8', Buffer.from([0x7b, 0xff, 0x22, 0xe4, 0x7d]), /^expected UTF-8 in/],
    ['nothing', Buffer.alloc(0), /got an empty file$/],
    [
      'a weight that is too large',
      Buffer.from(
        JSON.stringify({
          lockstepKeys: 1,
          keys: [
            {
              name: 'a',
              id: 'aaaaaaaaaa',
              hash: `scrypt:16384:8:1:${'a'.repeat(22)}:${'a'.repeat(43)}`,
              created: '2026-11-30T00:00:00Z',
              limits: { weight: 1000 },
            },
          ],
        }),
      ),
      /limits\.weight \(expected at most 100\)$/,
    ],
  ])('%s', async (_, bytes, message) => {
    writeFileSync(file, bytes, { mode: 0o600 });
    const refused = {
      code: 'LS_KEYS_FORMAT',
      message: expect.stringMatching(message),
      fix: expect.stringContaining('remove it if it holds no keys'),
    };
    await expect(readKeys(file)).rejects.toMatchObject(refused);
    await expect(add('amy')).rejects.toMatchObject(refused);
    expect(readFileSync(file)).toEqual(bytes);
  });
});

describe('changeKeys', () => {
  it('in a folder that is not there says how to make it', async () => {
    file = path.join(folder, 'no', 'k.json');
    await expect(add('amy')).rejects.toMatchObject({
      code: 'LS_KEYS_FILE',
      fix: `Make the folder first: mkdir -p ${path.dirname(file)}`,
    });
    await expect(readKeys(file)).rejects.toMatchObject({
      code: 'LS_KEYS_FILE',
      fix: expect.stringContaining('lockstep keys add'),
    });
  });

  it.skipIf(!canMount())('on a full disk is refused, and the file stays whole', async () => {
    const disk = path.join(folder, 'disk');
    const unmount = mountSmall(disk, '32k');
    try {
      file = path.join(disk, 'k.json');
      await add('alice');
      const before = readFileSync(file, 'utf8');
      fillDisk(disk);
      await expect(add('amy')).rejects.toMatchObject({
        code: 'LS_KEYS_FILE',
        message: expect.stringContaining('got a full disk'),
      });
      expect(readFileSync(file, 'utf8')).toBe(before);
      expect(readdirSync(disk).filter((name) => name.endsWith('.lock'))).toEqual([]);
    } finally {
      unmount();
    }
  });

  it('keeps the mode', async () => {
    await add('alice');
    expect(owner(file).mode).toBe(0o600);
    chmodSync(file, 0o640);
    await add('bob');
    expect(owner(file).mode).toBe(0o640);
  });

  describe.runIf(process.getuid?.() === 0)('run by root', () => {
    it('keeps the owner, as the service must still read the file', async () => {
      await add('alice');
      chownSync(file, 1234, 4321);
      await add('bob');
      expect(owner(file)).toEqual({ uid: 1234, gid: 4321, mode: 0o600 });
    });

    it('gives a new file to the owner of the folder', async () => {
      chownSync(folder, 1234, 4321);
      await add('alice');
      expect(owner(file)).toEqual({ uid: 1234, gid: 4321, mode: 0o600 });
    });
  });

  describe.runIf(process.getuid?.() === 0)('run by another user', () => {
    afterEach(() => process.seteuid?.(0));

    it('is refused, and the file stays as it was', async () => {
      await add('alice');
      chownSync(file, 0, 1234);
      chmodSync(file, 0o640);
      chmodSync(folder, 0o777);
      process.setegid?.(1234);
      process.seteuid?.(1234);
      const refused = await add('bob').catch((error: unknown) => error);
      process.seteuid?.(0);
      process.setegid?.(0);
      expect(refused).toMatchObject({ code: 'LS_KEYS_FILE' });
      expect(owner(file)).toEqual({ uid: 0, gid: 1234, mode: 0o640 });
    });
  });
});
