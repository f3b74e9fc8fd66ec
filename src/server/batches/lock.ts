// Only one server may use a folder. It listens on a socket in it, which the system closes however the process ends.
import { createHash, randomBytes } from 'node:crypto';
import { readdir, rename, rm } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LockstepError } from '../../errors.ts';

/** Longest path of a socket that every system takes, in bytes. */
const MOST_PATH = 103;
/** Sockets of servers that hold the folder or ask for it. */
const LOCKS = /^lock(-[0-9a-f]{8})?$/;
/** How often a server asks that meets another one: both may have come at the same moment. */
const TRIES = 5;

/**
 * Hold a folder. The function that this gives lets go of it.
 *
 * Each server listens on a socket whose name is its own, and then looks for others: of two, at least the one that looks
 * last sees the other. No name is used twice, so removing the socket of a killed server is safe.
 *
 * @throws LS_BATCH_LOCK another process holds it; LS_BATCH_FOLDER
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  if (process.platform === 'win32') return holdPipe(folder);
  for (let tries = 0; tries < TRIES; tries++) {
    // Another server may have tried at the same moment: try again after a random pause.
    if (tries > 0) await sleep(20 + Math.random() * 60 * tries);
    const own = `lock-${randomBytes(4).toString('hex')}`;
    const leave = await announce(folder, own);
    try {
      if (!(await hasOthers(folder, own))) return leave;
    } catch (error) {
      await leave();
      throw error;
    }
    await leave();
  }
  throw inUse(folder);
}

/** Whether a file is a server's socket, or one that it has not shown yet. */
export function isLock(name: string): boolean {
  return LOCKS.test(name.replace(/^\./, ''));
}

/** Listen under a name, which others see only when somebody answers there. */
async function announce(folder: string, name: string): Promise<() => Promise<void>> {
  const file = path.join(folder, name);
  const hidden = placeOf(folder, `.${name}`);
  const server = net.createServer((socket) => socket.destroy());
  const code = await listen(server, hidden);
  if (code !== null) throw cannot(folder, `one where a socket gives ${code}`);
  server.unref();
  const leave = async (): Promise<void> => {
    await rm(file, { force: true });
    await new Promise<void>((resolve) => server.close(() => resolve()));
  };
  try {
    await rename(hidden, file);
  } catch (error) {
    await leave();
    throw error;
  }
  return leave;
}

/** Whether another server has a socket here. Those of killed ones are removed. */
async function hasOthers(folder: string, own: string): Promise<boolean> {
  let found = false;
  for (const name of await readdir(folder)) {
    if (name === own || !LOCKS.test(name)) continue;
    if (await answers(placeOf(folder, name))) found = true;
    else await rm(path.join(folder, name), { force: true });
  }
  return found;
}

/** Windows has names for sockets outside of folders, which end with their process. */
async function holdPipe(folder: string): Promise<() => Promise<void>> {
  const name = createHash('sha256').update(path.resolve(folder)).digest('hex').slice(0, 32);
  const server = net.createServer((socket) => socket.destroy());
  const code = await listen(server, `\\\\.\\pipe\\lockstep-${name}`);
  if (code === 'EADDRINUSE') throw inUse(folder);
  if (code !== null) throw cannot(folder, `one where a socket gives ${code}`);
  server.unref();
  return () => new Promise((resolve) => server.close(() => resolve()));
}

/** Null, or the code of what went wrong. */
function listen(server: net.Server, place: string): Promise<string | null> {
  return new Promise((resolve) => {
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'an error'));
    server.listen(place, () => resolve(null));
  });
}

function placeOf(folder: string, name: string): string {
  const absolute = path.join(path.resolve(folder), name);
  const relative = path.relative(process.cwd(), absolute);
  const place = Buffer.byteLength(absolute) <= MOST_PATH ? absolute : relative;
  if (Buffer.byteLength(place) > MOST_PATH) {
    throw cannot(folder, `one with ${Buffer.byteLength(absolute)} bytes in the path of its lock`);
  }
  return place;
}

function answers(place: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(place);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    // Where it cannot be asked, it may well be there.
    socket.once('error', ({ code }: NodeJS.ErrnoException) => {
      resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT' && code !== 'ENOTSOCK');
    });
  });
}

function inUse(folder: string): LockstepError {
  return new LockstepError(
    'LS_BATCH_LOCK',
    `expected a folder of batches that no other server uses, got ${folder}`,
    { fix: 'Give each server its own folder, or stop the other server.', field: 'batches' },
  );
}

function cannot(folder: string, got: string): LockstepError {
  const words = `expected a folder for batches whose lock has a path of at most ${MOST_PATH} bytes, got ${folder}: ${got}`;
  return new LockstepError('LS_BATCH_FOLDER', words, {
    fix: 'Give --batches a folder on a local disk with a shorter path.',
    field: 'batches',
  });
}
