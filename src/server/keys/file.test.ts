import { chmodSync, chownSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { changeKeys } from './file.ts';
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

describe('changeKeys', () => {
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
