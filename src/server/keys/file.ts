// Reading and writing a keys file: whole, by its owner alone, never half of an edit.
import { type FileHandle, open, realpath, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LockstepError } from '../../errors.ts';
import { jsonText } from '../../json-text.ts';
import { shellWord } from '../../shell-word.ts';
import { systemProblem } from '../../system-error.ts';
import { checkClosed } from '../closed-file.ts';
import { broken, type KeyEntry, keysText, parseKeys } from './format.ts';

const MOST_BYTES = 16 * 1024 * 1024;
/** A file that changes while it is read is read again so often. */
const TRIES = 5;

/**
 * Read a keys file. Its mode is that of the file which is then read, and it must not have changed in between.
 *
 * @throws LS_KEYS_FILE it cannot be read, or never stood still; LS_KEYS_MODE others may read or change it;
 *   LS_KEYS_FORMAT
 */
export async function readKeys(file: string): Promise<KeyEntry[]> {
  for (let tries = 1; ; tries++) {
    const text = await readWhole(file);
    if (text !== null) return parseKeys(text, file);
    if (tries === TRIES) {
      const got = `one that changed during each of ${TRIES} attempts`;
      const fix = 'Run the command again once no other program writes to it.';
      throw failed(file, 'a keys file that does not change while it is read', got, fix);
    }
    await sleep(50 * tries);
  }
}

/** Its text; null where it changed meanwhile. */
async function readWhole(file: string): Promise<string | null> {
  const handle = await opened(file, 'r');
  try {
    const before = await handle.stat();
    checkMode(before.mode, file, before.isFile());
    if (before.size > MOST_BYTES) {
      throw failed(file, `at most ${MOST_BYTES} bytes`, `${before.size}`, NAME_ONE);
    }
    const bytes = await handle.readFile().catch((cause) => {
      throw failed(file, READABLE, systemProblem(cause), NAME_ONE, cause);
    });
    const after = await handle.stat();
    const same =
      before.mtimeMs === after.mtimeMs && before.size === after.size && bytes.length === after.size;
    return same ? textOf(bytes, file) : null;
  } finally {
    await handle.close();
  }
}

/** @throws LS_KEYS_FORMAT */
function textOf(bytes: Buffer, file: string): string {
  try {
    return jsonText(bytes);
  } catch {
    throw broken(file, 'UTF-8', 'other bytes');
  }
}

/** @throws LS_KEYS_FILE, LS_KEYS_MODE */
function checkMode(mode: number, file: string, regular: boolean): void {
  if (!regular) throw failed(file, 'a file', 'something else', NAME_ONE);
  // A group may read it: that is how Kubernetes hands a secret to a process that is not root.
  checkClosed(mode, 0o027, file, 'LS_KEYS_MODE');
}

/**
 * Change a keys file: one command at a time, and a reader finds the file before or after, never between. A
 * file that is not there yet counts as one without keys. Owner and mode stay; a new file that root makes belongs to
 * the owner of its folder, so that a service which runs as that user can read it.
 *
 * @param change gives the new entries; what it throws leaves the file as it was
 * @throws LS_KEYS_LOCK another command holds the file; LS_KEYS_FILE it cannot be written, and is as it was; what
 *   `readKeys` throws
 */
export async function changeKeys(
  file: string,
  change: (keys: KeyEntry[]) => Promise<KeyEntry[]> | KeyEntry[],
): Promise<void> {
  // A link stays one: the file that it leads to is replaced.
  const target = await realpath(file).catch(() => file);
  const lock = `${target}.lock`;
  const handle = await opened(lock, 'wx');
  try {
    const keys = await change(await readKeys(target).catch(absent));
    await replace(target, handle, keysText(keys), lock);
  } catch (error) {
    await rm(lock, { force: true });
    throw error;
  } finally {
    // What matters was synced before.
    await handle.close().catch(() => {});
  }
}

/** Fill the new file and put it in the place of the old one, which stays where the disk refuses. */
async function replace(
  target: string,
  handle: FileHandle,
  text: string,
  from: string,
): Promise<void> {
  try {
    await handle.writeFile(text);
    await likeBefore(handle, target);
    await handle.sync();
    await rename(from, target);
  } catch (cause) {
    if (cause instanceof LockstepError) throw cause;
    const fix = 'Free disk space, or name a file on another disk. The keys are as they were.';
    throw failed(target, 'to write the keys', systemProblem(cause), fix, cause);
  }
}

/** Give the new file the mode and the owner of the one that it replaces. */
async function likeBefore(handle: FileHandle, target: string): Promise<void> {
  const before = await stat(target).catch(() => null);
  await handle.chmod(before === null ? 0o600 : before.mode & 0o777);
  const own = await handle.stat();
  const owner = before ?? (own.uid === 0 ? await stat(path.dirname(target)) : own);
  if (owner.uid === own.uid && owner.gid === own.gid) return;
  await handle.chown(owner.uid, owner.gid).catch((cause) => {
    const expected = `a keys file whose owner this user can keep (user ${owner.uid}, group ${owner.gid})`;
    throw new LockstepError('LS_KEYS_FILE', `expected ${expected}, got ${systemProblem(cause)}`, {
      fix: `Run the command as that user, or as root: sudo lockstep keys … ${target}.`,
      cause,
    });
  });
}

function absent(error: unknown): KeyEntry[] {
  const cause = (error as LockstepError).cause as NodeJS.ErrnoException | undefined;
  if (cause?.code === 'ENOENT') return [];
  throw error;
}

async function opened(file: string, flags: 'r' | 'wx'): Promise<FileHandle> {
  try {
    return await open(file, flags, 0o600);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EEXIST') {
      throw new LockstepError(
        'LS_KEYS_LOCK',
        `expected no other command that changes the keys, got ${file}`,
        { fix: `Wait for it to finish. If no such command is running, delete ${file}.`, cause },
      );
    }
    const problem = systemProblem(cause);
    if (flags === 'wx') {
      const folder = path.dirname(file);
      const fix =
        code === 'ENOENT'
          ? `Make the folder first: mkdir -p ${shellWord(folder)}`
          : 'Name a file in a folder that you can write to.';
      throw failed(folder, 'a folder that can be written', problem, fix, cause);
    }
    throw failed(file, READABLE, problem, code === 'ENOENT' ? CREATE_ONE : NAME_ONE, cause);
  }
}

const READABLE = 'a keys file that can be read';
const CREATE_ONE = 'Create one with `lockstep keys add FILE NAME`.';
const NAME_ONE =
  'Name a file that `lockstep keys add FILE NAME` made, and that this user can read.';

function failed(
  file: string,
  expected: string,
  got: string,
  fix: string,
  cause?: unknown,
): LockstepError {
  return new LockstepError('LS_KEYS_FILE', `expected ${expected} at ${file}, got ${got}`, {
    fix,
    cause,
  });
}
