// Clients that take nothing of an answer, or take it slowly.
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import https from 'node:https';
import net, { type AddressInfo, type Socket } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import express from 'express';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readTls } from '../src/server/index.ts';
import { watchReaders } from '../src/server/limits/stall.ts';
import { makeCertificate } from './helpers/certificate.ts';
import { until } from './server-client.ts';
import { toyServers } from './server-fixture.ts';

const { serve } = toyServers();

/** A connection that has sent this and reads nothing. */
function stalled(port: number, text: string): Socket {
  const socket = net.connect(port, '127.0.0.1');
  socket.pause();
  socket.on('error', () => {});
  socket.write(text);
  return socket;
}

const posted = (where: string, body: string) =>
  `POST ${where} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`;

describe('a client that takes nothing', () => {
  test('not even the opening of a stream leaves no session behind', async () => {
    const { port, engine, post } = await serve({}, { stallMs: 300 });
    // It comes back in the first events, before the engine is asked for any.
    const user = 'x'.repeat(4_000_000);
    const ask = { input: 'hi', stream: true, max_output_tokens: 4, user };
    const socket = stalled(port, posted('/v1/responses', JSON.stringify(ask)));
    await until(() => engine.sessions === 1, 60);
    await until(() => engine.sessions === 0, 10);
    expect(engine.steps).toBe(0);
    expect((await post('/v1/completions', { prompt: 'a', max_tokens: 1 })).status).toBe(200);
    socket.destroy();
  });

  test('of whole answers is given up', async () => {
    const { port, url } = await serve({}, { stallMs: 300 });
    const socket = stalled(
      port,
      'GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n'.repeat(200),
    );
    const given = async () =>
      (await (await fetch(`${url}/metrics`)).text()).includes(
        'lockstep_http_requests_total{route="/openapi.json",method="GET",status="aborted"}',
      );
    await until(given, 10);
    socket.destroy();
  });
});

describe('one large answer', () => {
  let folder: string;
  const files = () => ({ cert: path.join(folder, 'cert.pem'), key: path.join(folder, 'key.pem') });
  beforeAll(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-stall-'));
    await makeCertificate('stall', files().cert, files().key);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const MB = 2 ** 20;
  const SIZE = 24 * MB;

  /** A client of a server that writes the whole answer at once. */
  async function client(secure: boolean, stallMs: number) {
    const app = express();
    app.use(watchReaders(stallMs));
    app.get('/', (_request, response) => {
      response.send(Buffer.alloc(SIZE));
    });
    const server = secure
      ? https.createServer(await readTls(files()), app)
      : http.createServer(app);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const socket = secure
      ? tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false })
      : net.connect(port, '127.0.0.1');
    socket.pause();
    socket.on('error', () => {});
    socket.write('GET / HTTP/1.1\r\nhost: localhost\r\n\r\n');
    const [request, response] = await once(server, 'request');
    const end = () => {
      socket.destroy();
      server.close();
    };
    return { socket, closed: once(response, 'close'), taken: request.socket as Socket, end };
  }

  test.each([
    ['plain', false],
    ['TLS', true],
  ])('that nobody takes is given up (%s)', async (_, secure) => {
    const { closed, taken, end } = await client(secure, 400);
    await closed;
    expect(taken.destroyed).toBe(true);
    end();
  });

  test.each([
    ['plain', false],
    ['TLS', true],
  ])('that is taken slowly arrives whole (%s)', async (_, secure) => {
    const { socket, end } = await client(secure, 1500);
    let got = 0;
    let since = 0;
    // Some 3 s in all, twice as long as a client may take nothing.
    while (got < SIZE && !socket.destroyed) {
      const part: Buffer | null = socket.read();
      got += part?.length ?? 0;
      since += part?.length ?? 0;
      if (part === null) await sleep(5);
      if (since < 2 * MB) continue;
      since -= 2 * MB;
      await sleep(250);
    }
    expect(got).toBeGreaterThanOrEqual(SIZE);
    end();
  });
});
