// Which connections a server that ends may close: those without a request whose last answer was written out to its end.
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Server as TlsServer } from 'node:tls';
import type { ConnectionLimits } from './connections.ts';

interface Idle {
  /** What had come when it fell idle: more is the beginning of a request. */
  bytesRead: number;
  /** `performance.now()` of when that was first seen while the server ends. */
  begun: number | null;
}

/**
 * Give a server a `closeIdleConnections` that cuts no answer. Node's own takes a connection for idle once the last
 * byte of its answer was handed over, though megabytes of it may wait for a slow reader; and one that has not sent any
 * request it never takes for idle. A request that is on its way has `headersMs` to arrive: Node looks at that no more
 * once the server ends.
 */
export function closeOnlyIdle(
  http: Server,
  { headersMs }: Pick<ConnectionLimits, 'headersMs'>,
): void {
  const idle = new Map<Socket, Idle>();
  /** Requests of a connection that have no whole answer yet: some clients send the next one before. */
  const open = new WeakMap<Socket, number>();
  /** Connections below TLS until their handshake is over, by the client's address. */
  const shaking = new Map<string, Socket>();
  const fallIdle = (socket: Socket): void => {
    if (!socket.destroyed) idle.set(socket, { bytesRead: socket.bytesRead, begun: null });
  };
  const follow = (socket: Socket): void => {
    fallIdle(socket);
    socket.once('close', () => idle.delete(socket));
  };
  const secure = http instanceof TlsServer;
  http.on('connection', (socket: Socket) => {
    follow(socket);
    if (!secure) return;
    const client = clientOf(socket);
    shaking.set(client, socket);
    socket.once('close', () => {
      if (shaking.get(client) === socket) shaking.delete(client);
    });
  });
  http.on('secureConnection', (socket: Socket) => {
    // From now on it is the one above that has requests.
    const client = clientOf(socket);
    const below = shaking.get(client);
    if (below !== undefined) idle.delete(below);
    shaking.delete(client);
    follow(socket);
  });
  http.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    idle.delete(socket);
    open.set(socket, (open.get(socket) ?? 0) + 1);
    response.once('close', () => {
      const left = (open.get(socket) ?? 1) - 1;
      open.set(socket, left);
      if (left === 0) fallIdle(socket);
    });
  });
  // `close` calls it too.
  http.closeIdleConnections = () => {
    const now = performance.now();
    for (const [socket, one] of idle) {
      if (socket.bytesRead > one.bytesRead) one.begun ??= now;
      if (one.begun === null) socket.destroySoon();
      else if (now - one.begun >= headersMs) socket.destroy();
    }
  };
}

function clientOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
