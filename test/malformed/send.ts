// One raw request over a socket of its own, and all that came back.
import net from 'node:net';
import { answersIn } from './parse.ts';

export interface RawAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
}

/**
 * @param whole whether the server has all of the request: it is then waited for
 * @returns the answers, several where the bytes held several requests; none where the server only closed
 */
export function send(port: number, bytes: Buffer, whole: boolean): Promise<RawAnswer[]> {
  return new Promise((resolve) => {
    const parts: Buffer[] = [];
    const socket = net.connect(port, '127.0.0.1');
    const done = () => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answersIn(Buffer.concat(parts)));
    };
    let timer = setTimeout(done, 60_000);
    socket.on('data', (part) => parts.push(part));
    socket.on('error', done);
    socket.on('close', done);
    socket.write(bytes, () => {
      if (whole) return;
      clearTimeout(timer);
      // The server may wait for the rest: it gets no more, and a while to answer.
      timer = setTimeout(() => socket.end(), 500);
    });
  });
}
