// Opening a port, and saying why it cannot be had.
import { createServer, type Server } from 'node:http';
import { LockstepError } from '../errors.ts';

/**
 * Fail early, before a model is loaded, when the port cannot be had.
 *
 * @throws LS_SERVE_PORT, LS_SERVE_HOST
 */
export async function probePort(port: number, host: string): Promise<void> {
  const probe = createServer();
  await listen(probe, port, host);
  await new Promise((resolve) => probe.close(resolve));
}

/** @throws LS_SERVE_PORT, LS_SERVE_HOST */
export function listen(http: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    http.once('error', (cause: NodeJS.ErrnoException) => {
      reject(listenError(cause, port, host));
    });
    http.listen(port, host, () => resolve());
  });
}

function listenError(cause: NodeJS.ErrnoException, port: number, host: string): LockstepError {
  if (cause.code === 'EADDRINUSE') {
    return new LockstepError('LS_SERVE_PORT', `expected a free port, got ${port} in use`, {
      fix: `Choose another with --port, or 0 for any free one.`,
      field: 'port',
      cause,
    });
  }
  if (cause.code === 'EACCES') {
    return new LockstepError('LS_SERVE_PORT', `expected a port this user may open, got ${port}`, {
      fix: 'Choose one above 1023 with --port.',
      field: 'port',
      cause,
    });
  }
  return new LockstepError(
    'LS_SERVE_HOST',
    `expected an address of this machine, got ${host} (${cause.code})`,
    {
      fix: 'Give --host an address of this machine: 127.0.0.1, or 0.0.0.0 for all of them.',
      field: 'host',
      cause,
    },
  );
}
