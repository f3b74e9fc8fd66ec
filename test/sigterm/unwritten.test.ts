// A server that ends lets slow readers read what was written for them.
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { answersIn } from '../malformed/parse.ts';
import { toyServers } from '../server-fixture.ts';

const { serve } = toyServers();

test('an answer of megabytes that waits for its reader is not cut', {
  timeout: 180_000,
}, async () => {
  const { port, server, url } = await serve({}, { drainMs: 30_000 });
  const text = 'x'.repeat(1_500_000);
  const body = JSON.stringify({ text });
  const socket = net.connect(port, '127.0.0.1');
  socket.write(
    `POST /tokenize HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  const parts: Buffer[] = [];
  const [first] = (await once(socket, 'data')) as [Buffer];
  parts.push(first);
  socket.pause();
  const closed = server.close();
  // It has refused newcomers, and looked for idle connections several times.
  await sleep(500);
  expect(await fetch(`${url}/health/live`).catch(() => null)).toBeNull();
  socket.on('data', (part) => parts.push(part));
  socket.resume();
  await once(socket, 'close');
  const [answer] = answersIn(Buffer.concat(parts));
  expect(answer?.status).toBe(200);
  expect(JSON.parse(answer?.body ?? '').count).toBe(text.length);
  await closed;
});
