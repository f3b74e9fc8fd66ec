// One server for one folder: it listens on a socket in it, which the system closes however the process ends.
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { LockstepError } from '../../errors.ts';

/** Longest path of a socket that every system takes, in bytes. */
const MOST_PATH = 100;

/**
 * Hold a folder. The function that this gives lets go of it.
 *
 * @throws LS_BATCH_LOCK another process holds it; LS_BATCH_FOLDER
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const place = placeOf(folder);
  const server = net.createServer((socket) => socket.destroy());
  for (let tries = 0; ; tries++) {
    const code = await new Promise<string | null>((resolve) => {
      server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'an error'));
      server.listen(place, () => resolve(null));
    });
    server.removeAllListeners('error');
    if (code === null) break;
    if (code !== 'EADDRINUSE') throw cannot(folder, `one where a socket gives ${code}`);
    if (tries > 0 || (await answers(place))) {
      throw new LockstepError(
        'LS_BATCH_LOCK',
        `expected a folder of batches that no other server uses, got ${folder}`,
        { fix: 'Give each server its own folder, or stop the other server.', field: 'batches' },
      );
    }
    // Whoever listened there was killed.
    await rm(place, { force: true });
  }
  server.unref();
  return () => new Promise((resolve) => server.close(() => resolve()));
}

function placeOf(folder: string): string {
  const whole = path.resolve(folder);
  if (process.platform === 'win32') {
    return `\\\\.\\pipe\\lockstep-${createHash('sha256').update(whole).digest('hex').slice(0, 32)}`;
  }
  const absolute = path.join(whole, 'lock');
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
    socket.once('error', () => resolve(false));
  });
}

function cannot(folder: string, got: string): LockstepError {
  const words = `expected a folder for batches whose lock has a path of at most ${MOST_PATH} bytes, got ${folder}: ${got}`;
  return new LockstepError('LS_BATCH_FOLDER', words, {
    fix: 'Give --batches a folder on a local disk with a shorter path.',
    field: 'batches',
  });
}
