// Files of answers that cannot be opened: nothing of the attempt stays.
import {
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LineFile } from './durable.ts';
import { FileStore } from './files.ts';
import type { BatchInput } from './input.ts';
import { answersFile, Progress } from './progress.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'ls-progress-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** What this process has open, of these files. */
function open(...files: string[]): string[] {
  return readdirSync('/proc/self/fd').flatMap((name) => {
    try {
      const file = readlinkSync(path.join('/proc/self/fd', name));
      return files.includes(file) ? [file] : [];
    } catch {
      return []; // the list itself
    }
  });
}

const input = {
  count: 1,
  numberOf: () => 0,
  forgetIds: () => {},
  close: async () => {},
} as unknown as BatchInput;

describe.skipIf(process.platform !== 'linux')('a file that cannot be cut', () => {
  it('is closed again', async () => {
    // A device has no length.
    const before = open('/dev/null');
    await expect(LineFile.open('/dev/null', 0)).rejects.toMatchObject({ code: 'storage_failed' });
    expect(open('/dev/null')).toEqual(before);
  });

  it('gives back the room of the answers, and closes the file beside it', async () => {
    const store = await FileStore.open(path.join(folder, 'files'), 1000);
    const output = answersFile(folder, 'output');
    writeFileSync(output, '{"custom_id":"a"}\n');
    const error = answersFile(folder, 'error');
    symlinkSync('/dev/null', error);
    const devices = open('/dev/null');
    const failed = Progress.open(folder, input, store);
    await expect(failed).rejects.toMatchObject({ code: 'storage_failed' });
    expect(store.used).toBe(0);
    expect(open(output, '/dev/null')).toEqual(devices);
    rmSync(error);
    const progress = await Progress.open(folder, input, store);
    expect(store.used).toBe(18);
    expect(progress.counts).toEqual({ total: 1, completed: 1, failed: 0 });
    expect(open(output, error)).toHaveLength(2);
    await progress.close();
  });
});
