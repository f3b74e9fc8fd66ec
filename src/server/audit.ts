// The audit log: one JSON line for each request that was asked for a key, and for each change of the keys.
import { accessSync, constants, statSync } from 'node:fs';
import path from 'node:path';
import type { RequestHandler } from 'express';
import { pino } from 'pino';
import { LockstepError } from '../errors.ts';
import { callerOf } from './keys/caller.ts';
import { usedBy } from './stages.ts';

type Destination = ReturnType<typeof pino.destination>;

/** Most bytes of lines that wait until the file can be written again. */
const WAITING_BYTES = 16 * 1024 * 1024;

/** Ids, counts and codes; never a text, a key or a header. */
export class AuditLog {
  readonly #file: string;
  readonly #destination: Destination;
  readonly #broken: (error: Error) => void;
  /** Why the file could not be opened again: the destination emits it once more. */
  #notOpened: unknown = null;
  /** The last error of a write: pino emits the first one twice. */
  #told: unknown = null;
  #failed = 0;
  #lost = 0;

  /**
   * Append to a file, which is made with mode 0600 where it is not there.
   *
   * @param broken called for each line that could not be written (it waits in memory for the next that can), and for
   *   a file that could not be reopened (LS_AUDIT_FILE); requests are served all the same
   * @param waitingBytes most bytes of lines that wait; further ones are lost
   * @throws LS_AUDIT_FILE
   */
  constructor(file: string, broken: (error: Error) => void, waitingBytes = WAITING_BYTES) {
    checkFile(file);
    this.#file = file;
    this.#broken = broken;
    const how = { append: true, mode: 0o600, sync: true, maxLength: waitingBytes };
    this.#destination = pino.destination({ dest: file, ...how });
    this.#destination.on('error', (error: Error) => {
      if (error === this.#notOpened || error === this.#told) return;
      this.#told = error;
      this.#failed += 1;
      broken(error);
    });
    this.#destination.on('drop', () => {
      this.#lost += 1;
      // Instead of a line that is dropped nothing is written: try those that wait.
      this.#destination.write('');
    });
  }

  /** Writes that failed. */
  get failed(): number {
    return this.#failed;
  }

  /** Lines that will never be written. */
  get lost(): number {
    return this.#lost;
  }

  write(event: string, fields: object): void {
    const line = JSON.stringify({ time: new Date().toISOString(), event, ...fields });
    try {
      this.#destination.write(`${line}\n`);
    } catch (error) {
      this.#lost += 1;
      this.#broken(error as Error);
    }
  }

  /**
   * Open the file by its name again, after a rotation has moved it. Where that fails, the open one stays in use.
   *
   * @returns whether it is open
   */
  reopen(): boolean {
    const before = this.#destination.listeners('ready');
    try {
      this.#destination.reopen();
      return true;
    } catch (error) {
      this.#notOpened = error;
      // What was to close the file that is open: it would do so after the next time that opens one.
      for (const listener of this.#destination.listeners('ready')) {
        if (!before.includes(listener)) this.#destination.off('ready', listener as () => void);
      }
      this.#broken(noFile(this.#file, (error as NodeJS.ErrnoException).code ?? 'an error', error));
      return false;
    }
  }

  close(): void {
    this.#destination.end();
  }
}

/** Write a line when an answer has ended, however it did. */
export function audit(log: AuditLog): RequestHandler {
  return (request, response, next) => {
    const since = performance.now();
    response.once('close', () => {
      const caller = callerOf(response);
      log.write('request', {
        requestId: response.locals['requestId'],
        caller: caller?.name ?? null,
        key: caller?.id ?? null,
        client: request.ip ?? null,
        batch: response.locals['batch'],
        method: request.method,
        route: (request.route as { path?: string } | undefined)?.path ?? 'other',
        status: response.writableFinished ? response.statusCode : 'aborted',
        model: response.locals['model'] ?? null,
        code: response.locals['code'] ?? null,
        ms: Math.round(performance.now() - since),
        ...usedBy(response),
      });
    });
    next();
  };
}

/** @throws LS_AUDIT_FILE where lines cannot be appended */
function checkFile(file: string): void {
  try {
    const found = statSync(file, { throwIfNoEntry: false });
    if (found?.isDirectory()) throw noFile(file, 'a folder');
    accessSync(found === undefined ? path.dirname(path.resolve(file)) : file, constants.W_OK);
  } catch (error) {
    if (error instanceof LockstepError) throw error;
    throw noFile(file, (error as NodeJS.ErrnoException).code ?? 'an error', error);
  }
}

function noFile(file: string, got: string, cause?: unknown): LockstepError {
  return new LockstepError('LS_AUDIT_FILE', `expected a file to append to at ${file}, got ${got}`, {
    fix: 'Give --audit a file in a folder that this user may write to.',
    field: 'audit',
    cause,
  });
}
