// Which connections a server that ends may close: those whose last answer was written out to its end.
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/**
 * Give a server a `closeIdleConnections` that cuts no answer. Node's own takes a connection for idle once the last
 * byte of its answer was handed over, though megabytes of it may wait for a slow reader.
 */
export function closeOnlyIdle(http: Server): void {
  const idle = new Set<Socket>();
  for (const event of ['connection', 'secureConnection']) {
    http.on(event, (socket: Socket) => socket.once('close', () => idle.delete(socket)));
  }
  http.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    idle.delete(socket);
    response.once('close', () => {
      if (!socket.destroyed) idle.add(socket);
    });
  });
  // `close` calls it too.
  http.closeIdleConnections = () => {
    for (const socket of idle) socket.destroySoon();
  };
}
