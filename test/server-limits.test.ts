// What a connection, a body and a client may do: slow and long headers, depth, proxies, waiting times, TLS.
import { once } from 'node:events';
import { chmod, copyFile, mkdtemp, rm } from 'node:fs/promises';
import https from 'node:https';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import tls, { type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readTls } from '../src/server/index.ts';
import { makeCertificate } from './helpers/certificate.ts';
import { type Any, eventsOf, until } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { makeToy } from './server-toy.ts';

const { serve } = toyServers(() => makeToy(null));

/** Send bytes, and read until the server ends the connection. */
async function raw(port: number, text: string): Promise<string> {
  const socket = net.connect(port, '127.0.0.1');
  socket.write(text);
  let answer = '';
  socket.on('data', (data) => {
    answer += data;
  });
  await once(socket, 'close');
  return answer;
}

const errorIn = (answer: string) =>
  `${answer.slice(9, 12)} ${JSON.parse(answer.split('\r\n\r\n')[1] as string).error.code}`;

describe('connections', () => {
  test('slow headers and slow bodies are cut off, slow answers are not', async () => {
    const connections = { headersMs: 300, requestMs: 600 };
    const { port, post } = await serve({ delayMs: 20 }, { connections });
    const head = 'POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n';
    const body = 'content-type: application/json\r\ncontent-length: 500\r\n\r\n{"prompt": "';
    const answers = await Promise.all([raw(port, head), raw(port, `${head}${body}`)]);
    expect(answers.map(errorIn)).toEqual(['408 request_timeout', '408 request_timeout']);
    const slow = await post('/v1/completions', { prompt: 'a', max_tokens: 60, stream: true });
    expect((await eventsOf(slow)).done).toBe(true);
  });

  test('long headers and what is no HTTP are answered in OpenAI’s words', async () => {
    const { port, url } = await serve();
    const long = `GET /v1/models HTTP/1.1\r\nhost: localhost\r\nx-long: ${'a'.repeat(20_000)}\r\n\r\n`;
    expect(errorIn(await raw(port, long))).toBe('431 headers_too_large');
    expect(errorIn(await raw(port, 'hello\r\n\r\n'))).toBe('400 bad_request');
    expect((await fetch(`${url}/v1/models`)).status).toBe(200);
  });

  test('a body that is nested too deeply is refused; brackets in texts do not count', async () => {
    const { post } = await serve();
    const deep = (depth: number) =>
      `{"prompt": "a", "max_tokens": 1, "x": ${'['.repeat(depth)}${']'.repeat(depth)}}`;
    const code = async (body: string) =>
      ((await (await post('/v1/completions', body)).json()) as Any).error?.code;
    expect(await code(deep(99))).toBe('unknown_parameter');
    expect(await code(deep(100))).toBe('body_too_deep');
    expect(await code(deep(1_000_000))).toBe('body_too_deep');
    const text = `${'[{'.repeat(300)}\\"\\\\`;
    expect(await code(`{"prompt": "${text}", "max_tokens": 1}`)).toBeUndefined();
  });
});

describe('clients', () => {
  const ask = async (url: string, client?: string) => {
    const headers: Record<string, string> =
      client === undefined ? {} : { 'x-forwarded-for': client };
    return (await fetch(`${url}/v1/models`, { headers })).status;
  };

  test('behind a trusted proxy each client has its own limit', async () => {
    const { url } = await serve({}, { requestsPerMinute: 2, trustProxy: ['loopback'] });
    for (const client of ['203.0.113.5', '203.0.113.6', '2001:db8:1::1', '2001:db8:2::1']) {
      const statuses = [await ask(url, client), await ask(url, client), await ask(url, client)];
      expect(statuses).toEqual([200, 200, 429]);
    }
    // The last address is the one that the proxy saw; what a client wrote before it says nothing.
    expect(await ask(url, '198.51.100.1, 203.0.113.5')).toBe(429);
  });

  test('forwarded addresses from anybody else are ignored', async () => {
    const { url } = await serve({}, { requestsPerMinute: 2, trustProxy: ['10.0.0.0/8'] });
    const statuses = [await ask(url, '203.0.113.5'), await ask(url, '203.0.113.6')];
    expect([...statuses, await ask(url, '203.0.113.7')]).toEqual([200, 200, 429]);
  });

  test('metrics and health are not counted', async () => {
    const { url } = await serve({}, { requestsPerMinute: 1 });
    for (const where of ['/metrics', '/health', '/health/ready', '/metrics', '/health/live']) {
      expect((await fetch(`${url}${where}`)).status).toBe(200);
    }
    expect([await ask(url), await ask(url)]).toEqual([200, 429]);
  });

  test('proxies that are no addresses are refused', async () => {
    await expect(serve({}, { trustProxy: ['proxy.example'] })).rejects.toMatchObject({
      code: 'LS_SERVE_PROXY',
    });
  });

  test('clients refused at the same moment get different Retry-After times', async () => {
    const { post, engine } = await serve({ delayMs: 5 }, { maxSessions: 1, maxQueue: 0 });
    const leave = new AbortController();
    const body = { prompt: 'a', max_tokens: 9000, ignore_eos: true, stream: true };
    const first = await post('/v1/completions', body, { signal: leave.signal });
    expect(first.status).toBe(200);
    await until(() => engine.sessions === 1);
    const waits = await Promise.all(
      Array.from({ length: 60 }, async () => {
        const refused = await post('/v1/completions', { prompt: 'a' });
        expect(refused.status).toBe(429);
        await refused.text();
        return Number(refused.headers.get('retry-after'));
      }),
    );
    leave.abort();
    expect(new Set(waits).size).toBeGreaterThanOrEqual(3);
    expect(Math.min(...waits)).toBeGreaterThanOrEqual(1);
  });
});

describe('TLS', () => {
  let folder: string;
  const at = (name: string) => path.join(folder, name);

  beforeAll(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-tls-'));
    for (const name of ['one', 'two']) {
      await makeCertificate(name, at(`${name}.pem`), at(`${name}.key`));
    }
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  /** Status, the name on the certificate, and what browsers are told of TLS, of a new connection. */
  const ask = (url: string, headers = {}) =>
    new Promise<[number | undefined, string, string | undefined]>((resolve, reject) => {
      const options = { rejectUnauthorized: false, agent: false, headers };
      const request = https.get(`${url}/health/live`, options, (response) => {
        const { subject } = (response.socket as TLSSocket).getPeerCertificate();
        const hsts = response.headers['strict-transport-security'];
        response.resume();
        response.on('end', () => resolve([response.statusCode, String(subject.CN), hsts]));
      });
      request.on('error', reject);
    });
  const get = async (url: string) => (await ask(url)).slice(0, 2);

  test('the server speaks TLS only, and takes a new certificate while it runs', async () => {
    const files = { cert: at('cert.pem'), key: at('key.pem') };
    const take = async (name: string) => {
      await copyFile(at(`${name}.pem`), files.cert);
      await copyFile(at(`${name}.key`), files.key);
      await chmod(files.key, 0o600);
    };
    await take('one');
    const { url, port, server } = await serve({}, { tls: await readTls(files) });
    expect(url).toMatch(/^https:/);
    expect(await get(url)).toEqual([200, 'one']);
    await expect(fetch(`http://127.0.0.1:${port}/health/live`)).rejects.toThrow();
    await take('two');
    server.setTls(await readTls(files));
    expect(await get(url)).toEqual([200, 'two']);
  });

  test('connections without a handshake or a request do not hold up the end; answers go on', async () => {
    const files = { cert: at('one.pem'), key: at('one.key') };
    const options = { tls: await readTls(files), drainMs: 60_000, connections: { headersMs: 700 } };
    const { port, server, engine } = await serve({ delayMs: 30 }, options);
    const raw = net.connect(port, '127.0.0.1');
    await once(raw, 'connect');
    const secure = async () => {
      const socket = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
      await once(socket, 'secureConnect');
      return socket.resume();
    };
    const silent = await secure();
    const part = await secure();
    part.write('GET /health/live HTTP/1.1\r\n');
    const asking = await secure();
    let answer = '';
    asking.on('data', (data) => {
      answer += data;
    });
    const body = JSON.stringify({ prompt: 'a', max_tokens: 30, stream: true });
    asking.write(
      `POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await until(() => engine.sessions === 1);
    const ends = [raw, silent, part, asking].map((socket) => once(socket, 'close'));
    raw.resume();
    await Promise.all([server.close(), ...ends]);
    expect(answer).toContain('data: [DONE]');
  });

  test('browsers are told to stay with TLS, but not for localhost, and never without TLS', async () => {
    const files = { cert: at('one.pem'), key: at('one.key') };
    const { url } = await serve({}, { tls: await readTls(files), hostNames: ['llm.example'] });
    const hsts = async (headers = {}) => (await ask(url, headers))[2];
    expect(await hsts({ host: 'llm.example' })).toBe('max-age=31536000');
    // An error has it, too.
    expect(await hsts({ host: 'other.example' })).toBe('max-age=31536000');
    expect(await hsts({ host: 'localhost' })).toBeUndefined();
    const { url: plain } = await serve();
    const headers = (await fetch(`${plain}/`)).headers;
    expect(headers.get('strict-transport-security')).toBeNull();
  });

  test('a certificate and key that do not match, are no PEM, or are readable by others are refused', async () => {
    const refused = (cert: string, key: string) =>
      expect(readTls({ cert: at(cert), key: at(key) })).rejects;
    await refused('one.pem', 'two.key').toMatchObject({ code: 'LS_SERVE_TLS' });
    await refused('one.key', 'one.pem').toMatchObject({ code: 'LS_SERVE_TLS' });
    await refused('none.pem', 'one.key').toMatchObject({ code: 'LS_SERVE_TLS' });
    await copyFile(at('one.key'), at('open.key'));
    await chmod(at('open.key'), 0o644);
    await refused('one.pem', 'open.key').toMatchObject({ code: 'LS_SERVE_TLS', field: 'tls-key' });
  });
});
