// The end of a server: balancers are told first, running streams are not cut, one line in the log.
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { type Any, eventsOf, PROMPT, until } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { makeToy } from './server-toy.ts';

const { serve } = toyServers(() => makeToy(null));

function logged() {
  const lines: Any[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line));
  return { lines, log: pino({ level: 'info' }, { write }) };
}

describe('the drain', () => {
  test('ready says closing while the listener serves on; no stream is cut', async () => {
    const { lines, log } = logged();
    const { post, server, engine, url } = await serve(
      { delayMs: 2 },
      { preDrainMs: 8_000, drainMs: 60_000, log, maxSessions: 20 },
    );
    const stream = (max_tokens: number) =>
      post('/v1/completions', { prompt: PROMPT, max_tokens, stream: true, temperature: 0 }).then(
        eventsOf,
      );
    const before = Array.from({ length: 8 }, () => stream(120));
    await until(() => engine.sessions === 8);
    const closed = server.close();
    const ready = await fetch(`${url}/health/ready`);
    expect([ready.status, ((await ready.json()) as Any).status]).toEqual([503, 'closing']);
    expect((await fetch(`${url}/health`)).status).toBe(503);
    expect((await fetch(`${url}/health/live`)).status).toBe(200);
    // A balancer that has not looked yet sends more, on connections of before and on new ones.
    const late = Array.from({ length: 4 }, () => stream(120));
    const ends = await Promise.all([...before, ...late]);
    for (const { events, done } of ends) {
      expect(done).toBe(true);
      expect(events.at(-1).choices[0].finish_reason).toBe('length');
    }
    await closed;
    expect(engine.closed).toBe(true);
    await expect(fetch(`${url}/health/live`)).rejects.toThrow();
    const told = lines.filter(({ msg }) => msg === 'shutdown');
    expect(told).toHaveLength(1);
    expect(told[0]).toMatchObject({ level: 30, cut: 0 });
  });

  test('a time beyond what timers hold is long, not none', async () => {
    const { lines, log } = logged();
    const { post, server, engine } = await serve({ delayMs: 5 }, { drainMs: 1e15, log });
    const ask = { prompt: PROMPT, max_tokens: 60, ignore_eos: true, stream: true };
    const reading = post('/v1/completions', ask).then(eventsOf);
    await until(() => engine.sessions === 1);
    await server.close();
    expect((await reading).done).toBe(true);
    expect(lines.find(({ msg }) => msg === 'shutdown')).toMatchObject({ cut: 0, finished: 1 });
  });

  test('what does not end in time is cut, in one line of the log', async () => {
    const { lines, log } = logged();
    const { post, server, engine } = await serve({ delayMs: 5 }, { drainMs: 50, log });
    const ask = { prompt: PROMPT, max_tokens: 9000, ignore_eos: true, stream: true };
    const reading = Array.from({ length: 3 }, () => post('/v1/completions', ask).then(eventsOf));
    await until(() => engine.sessions === 3);
    await server.close();
    for (const { events, done } of await Promise.all(reading)) {
      expect(done).toBe(false);
      expect(events.at(-1).error.code).toBe('shutting_down');
    }
    const loud = lines.filter(({ level }) => level >= 40);
    expect(loud).toHaveLength(1);
    expect(loud[0]).toMatchObject({ msg: 'shutdown', cut: 3, finished: 0, refused: 0 });
    expect(JSON.stringify(lines)).not.toContain('stack');
  });

  test('connections that send no request, or a part of one, do not hold up the end', async () => {
    const { server, port } = await serve(
      {},
      { drainMs: 60_000, connections: { headersMs: 2_000 } },
    );
    const connect = async (text = '') => {
      const socket = net.connect(port, '127.0.0.1');
      await once(socket, 'connect');
      socket.on('error', () => {});
      socket.resume();
      if (text !== '') socket.write(text);
      return socket;
    };
    const silent = await connect();
    const kept = await connect('GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n');
    await once(kept, 'data');
    const later = await connect('GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n');
    await once(later, 'data');
    later.write('GET /health/live HTTP/1.1\r\n');
    const half = await connect('GET /health/live HTTP/1.1\r\n');
    await sleep(50);
    const whole: string[] = [];
    half.on('data', (data) => whole.push(String(data)));
    const stays = await connect('GET /health/live HTTP/1.1\r\n');
    const [stayed, answered] = [once(stays, 'close'), once(half, 'close')];
    const idle = Promise.all([once(silent, 'close'), once(kept, 'close')]);
    const closed = server.close();
    await idle;
    // Its request is on its way, and is answered.
    expect([half.closed, later.closed]).toEqual([false, false]);
    half.write('host: localhost\r\n\r\n');
    await answered;
    expect(whole.join('')).toMatch(/^HTTP\/1.1 200/);
    await Promise.all([closed, stayed]);
  });
});
