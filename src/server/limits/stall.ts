// Clients that ask and then take nothing: their answer would wait in memory, and hold its model, for as long as they like.
import type { Socket } from 'node:net';
import type { RequestHandler } from 'express';

/** What Node knows of a connection and has no public name for: how much the system has not taken yet. */
interface Handle {
  bytesWritten?: number;
  writeQueueSize?: number;
  /** The connection below TLS. */
  _parent?: Handle | null;
}

/** @param stallMs a client that takes nothing of what waits for it for this long is given up, its connection closed */
export function watchReaders(stallMs: number): RequestHandler {
  const every = Math.max(10, Math.min(5_000, stallMs / 4));
  return ({ socket }, response, next) => {
    let taken = -1;
    let since = performance.now();
    const timer = setInterval(() => {
      const now = performance.now();
      const soFar = takenOf(socket);
      const waits = response.headersSent && socket.writableLength > 0;
      if (!waits || soFar !== taken) {
        taken = soFar;
        since = now;
      } else if (now - since >= stallMs) socket.destroy();
    }, every);
    timer.unref();
    response.once('close', () => clearInterval(timer));
    next();
  };
}

/**
 * Bytes that have left for the client. Of one large write, `bytesWritten` counts all of it at once, so that a slow
 * reader would look like one that has stopped.
 */
function takenOf(socket: Socket): number {
  const own = (socket as Socket & { _handle?: Handle | null })._handle;
  const handle = own?._parent ?? own;
  const { bytesWritten, writeQueueSize } = handle ?? {};
  if (bytesWritten === undefined || writeQueueSize === undefined) {
    return socket.bytesWritten - socket.writableLength;
  }
  return bytesWritten - writeQueueSize;
}
