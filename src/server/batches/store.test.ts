import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { BatchStore } from './store.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'ls-store-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const put = (...names: string[]) => {
  for (const name of names) writeFileSync(path.join(folder, name), name);
};

it("leaves a folder with other people's files as it is", async () => {
  chmodSync(folder, 0o755);
  put('letter.txt');
  await expect(BatchStore.open(folder)).rejects.toMatchObject({
    code: 'LS_BATCH_FOLDER',
    message: expect.stringContaining('got other files: letter.txt'),
  });
  expect(readdirSync(folder)).toEqual(['letter.txt']);
  expect(statSync(folder).mode & 0o777).toBe(0o755);
});

it('opens an empty folder, the root of a disk, and a folder that was a store before', async () => {
  mkdirSync(path.join(folder, 'lost+found'));
  await (await BatchStore.open(folder)).close();
  expect(readdirSync(folder).sort()).toEqual(['batches', 'files', 'lost+found']);
  put('notes.txt');
  const store = await BatchStore.open(folder);
  expect(store.found).toEqual([]);
  await store.close();
  expect(readdirSync(folder).sort()).toEqual(['batches', 'files', 'lost+found', 'notes.txt']);
});

it('opens a folder in which a killed server left its lock and nothing else', async () => {
  put('lock-0123abcd', '.lock-4567cdef');
  const store = await BatchStore.open(folder);
  const locks = readdirSync(folder).filter((name) => name.startsWith('lock'));
  expect(locks).toEqual([expect.stringMatching(/^lock-[0-9a-f]{8}$/)]);
  expect(locks).not.toContain('lock-0123abcd');
  await store.close();
  // A hidden one may be that of a server which starts: it stays.
  expect(readdirSync(folder).sort()).toEqual(['.lock-4567cdef', 'batches', 'files']);
});

it('clears away only what a store writes', async () => {
  await (await BatchStore.open(folder)).close();
  const own = path.join('files', `file-${'0'.repeat(24)}.part`);
  put(path.join('files', 'mine.tmp'), own);
  await (await BatchStore.open(folder)).close();
  expect(readdirSync(path.join(folder, 'files'))).toEqual(['mine.tmp']);
});
