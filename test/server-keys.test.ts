// Keys of clients: who gets in, what each may use, and what of it is told.
import { chmod, mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AuditLog, changeKeys, KeyRing, newKey, readKeys } from '../src/server/index.ts';
import type { KeyEntry } from '../src/server/keys/format.ts';
import { type Any, eventsOf, until } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { makeToy } from './server-toy.ts';

const { serve } = toyServers(() => makeToy(null));
let folder: string;
let files = 0;

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-keys-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A keys file with these entries; gives the keys by name. */
async function keysFile(entries: Record<string, Partial<KeyEntry>>) {
  const file = path.join(folder, `keys-${files++}.json`);
  const keys: Record<string, string> = {};
  for (const [name, more] of Object.entries(entries)) {
    const { key, id, hash } = await newKey();
    keys[name] = key;
    const created = new Date().toISOString();
    await changeKeys(file, (all) => [...all, { name, id, hash, created, ...more }]);
  }
  return { file, keys };
}

const as = (key: string | undefined) => ({
  'content-type': 'application/json',
  authorization: `Bearer ${key}`,
});
const codeOf = async (response: Response) =>
  `${response.status} ${((await response.json()) as Any).error?.code ?? 'ok'}`;

describe('who gets in', () => {
  test('keys of the file get in; others, and beginnings of keys, do not', async () => {
    const { file, keys } = await keysFile({ alice: {}, bob: {} });
    const { url } = await serve({}, { keys: await KeyRing.open(file) });
    const models = (key?: string) => fetch(`${url}/v1/models`, { headers: as(key) });
    for (let round = 0; round < 2; round++) {
      for (const key of Object.values(keys)) expect((await models(key)).status).toBe(200);
      const alice = keys['alice'] as string;
      const wrong = `${alice.slice(0, -1)}${alice.endsWith('A') ? 'B' : 'A'}`;
      const foreign = (await newKey()).key;
      for (const key of [wrong, alice.slice(0, -1), `${alice}A`, foreign, 'ls-', '']) {
        expect(await codeOf(await models(key))).toBe('401 invalid_api_key');
      }
    }
    expect((await fetch(`${url}/v1/models`)).headers.get('www-authenticate')).toBe('Bearer');
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
  });

  test('whoever guesses has to wait, and known keys do not', async () => {
    const { file, keys } = await keysFile({ alice: {} });
    const { url } = await serve({}, { keys: await KeyRing.open(file) });
    const models = (key?: string) => fetch(`${url}/v1/models`, { headers: as(key) });
    expect((await models(keys['alice'])).status).toBe(200);
    const statuses: number[] = [];
    for (let i = 0; i < 32; i++) statuses.push((await models((await newKey()).key)).status);
    expect(statuses.slice(0, 30).every((status) => status === 401)).toBe(true);
    expect(statuses.slice(30)).toEqual([429, 429]);
    expect((await models(keys['alice'])).status).toBe(200);
  });

  test('only keys that may see all callers read the metrics, as often as they like', async () => {
    const { file, keys } = await keysFile({
      alice: {},
      watcher: { metrics: true, limits: { requestsPerMinute: 2 } },
    });
    const { url } = await serve({}, { keys: await KeyRing.open(file) });
    const get = (where: string, name: string) =>
      fetch(`${url}${where}`, { headers: as(keys[name]) });
    for (const where of ['/metrics', '/lockstep/engine']) {
      expect(await codeOf(await get(where, 'alice'))).toBe('403 key_without_metrics');
    }
    for (let i = 0; i < 5; i++) expect((await get('/metrics', 'watcher')).status).toBe(200);
    for (let i = 0; i < 5; i++) {
      expect((await get('/lockstep/engine', 'watcher')).status).toBe(200);
    }
  });

  test('a reload takes keys away and adds some; a broken file changes nothing', async () => {
    const { file, keys } = await keysFile({ alice: {}, bob: {} });
    const ring = await KeyRing.open(file);
    const { url, post } = await serve({ delayMs: 5 }, { keys: ring });
    const status = async (key?: string) =>
      (await fetch(`${url}/v1/models`, { headers: as(key) })).status;
    expect([await status(keys['alice']), await status(keys['bob'])]).toEqual([200, 200]);
    const body = { prompt: 'A long story.', max_tokens: 60, stream: true, temperature: 0 };
    const running = eventsOf(await post('/v1/completions', body, { headers: as(keys['alice']) }));
    const text = await readFile(file, 'utf8');
    for (const [content, mode, code] of [
      ['{"lockstepKeys": 1, "keys": [', 0o600, 'LS_KEYS_FORMAT'],
      [text.replace('"hash"', '"hush"'), 0o600, 'LS_KEYS_FORMAT'],
      [text, 0o644, 'LS_KEYS_MODE'],
      [text, 0o620, 'LS_KEYS_MODE'],
    ] as const) {
      await writeFile(file, content);
      await chmod(file, mode);
      await expect(ring.reload()).rejects.toMatchObject({ code });
      await expect(KeyRing.open(file)).rejects.toMatchObject({ code });
      expect(await status(keys['alice'])).toBe(200);
    }
    await chmod(file, 0o640);
    await writeFile(file, text);
    await changeKeys(file, (all) => all.filter(({ name }) => name !== 'alice'));
    const { key, id, hash } = await newKey();
    const created = new Date().toISOString();
    await changeKeys(file, (all) => [...all, { name: 'carol', id, hash, created }]);
    expect((await stat(file)).mode & 0o777).toBe(0o640);
    expect(await ring.reload()).toEqual({ keys: 2, added: ['carol'], removed: ['alice'] });
    expect([await status(keys['alice']), await status(keys['bob']), await status(key)]).toEqual([
      401, 200, 200,
    ]);
    // What a key had begun is finished.
    expect((await running).done).toBe(true);
  });

  test('a file that is written while it is read is read whole or not at all', async () => {
    const { file } = await keysFile({ alice: {}, bob: {} });
    const text = await readFile(file, 'utf8');
    let writing = true;
    const writer = (async () => {
      // In place, as an editor that does not rename writes.
      const handle = await open(file, 'r+');
      for (let i = 0; writing; i++) {
        await handle.truncate(0);
        await handle.write(text.slice(0, text.length >> (i % 3)), 0);
        await handle.write(text, 0);
      }
      await handle.close();
    })();
    const seen = { whole: 0, refused: 0 };
    for (let i = 0; i < 12; i++) {
      const found = await readKeys(file).catch((error) => error.code as string);
      if (typeof found === 'string') {
        expect(['LS_KEYS_FORMAT', 'LS_KEYS_FILE']).toContain(found);
        seen.refused += 1;
      } else {
        expect(found.map(({ name }) => name)).toEqual(['alice', 'bob']);
        seen.whole += 1;
      }
    }
    writing = false;
    await writer;
    expect(seen.whole + seen.refused).toBe(12);
    expect((await readKeys(file)).length).toBe(2);
  });

  test('many first uses of a key at once are one comparison’s answer', async () => {
    const { file, keys } = await keysFile({ alice: {} });
    const { url } = await serve({}, { keys: await KeyRing.open(file) });
    const statuses = await Promise.all(
      Array.from({ length: 30 }, async (_, i) => {
        const key = i % 3 === 0 ? `${keys['alice']?.slice(0, -2)}__` : keys['alice'];
        return (await fetch(`${url}/v1/models`, { headers: as(key) })).status;
      }),
    );
    expect(statuses).toEqual(statuses.map((_, i) => (i % 3 === 0 ? 401 : 200)));
  });
});

describe('what a key may use', () => {
  test('requests a minute: each key its own', async () => {
    const { file, keys } = await keysFile({
      alice: { limits: { requestsPerMinute: 3 } },
      bob: {},
      watcher: { metrics: true },
    });
    const { url } = await serve({}, { keys: await KeyRing.open(file), requestsPerMinute: 5 });
    const statuses = async (name: string, count: number) => {
      const list: number[] = [];
      for (let i = 0; i < count; i++) {
        list.push((await fetch(`${url}/v1/models`, { headers: as(keys[name]) })).status);
      }
      return list;
    };
    expect(await statuses('alice', 4)).toEqual([200, 200, 200, 429]);
    expect(await statuses('bob', 6)).toEqual([200, 200, 200, 200, 200, 429]);
    const refused = await fetch(`${url}/v1/models`, { headers: as(keys['alice']) });
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(30);
    expect(((await refused.json()) as Any).error.message).toContain('the key alice');
    const metrics = await (await fetch(`${url}/metrics`, { headers: as(keys['watcher']) })).text();
    const counted = (name: string) =>
      new RegExp(`refused_total\\{caller="${name}",limit="requests_per_minute"\\} (\\d+)`).exec(
        metrics,
      )?.[1];
    expect([counted('alice'), counted('bob'), counted('watcher')]).toEqual(['2', '1', undefined]);
  });

  test('tokens a minute and a day: prompt and answer count, what never ran does not', async () => {
    const { file, keys } = await keysFile({
      minute: { limits: { tokensPerMinute: 100 } },
      day: { limits: { tokensPerDay: 100, tokensPerMinute: 1000 } },
      watcher: { metrics: true },
    });
    const { url, post } = await serve({}, { keys: await KeyRing.open(file), maxTokens: 200 });
    const ask = (name: string, prompt: number, max_tokens = 10) =>
      post(
        '/v1/completions',
        { prompt: 'a'.repeat(prompt), max_tokens, temperature: 0 },
        { headers: as(keys[name]) },
      );
    for (const [name, code] of [
      ['minute', '429 too_many_tokens'],
      ['day', '429 token_budget_spent'],
    ] as const) {
      expect((await ask(name, 60)).status).toBe(200);
      // 70 are used: 40 do not fit, and are not counted either.
      for (let i = 0; i < 3; i++) expect(await codeOf(await ask(name, 40))).toBe(code);
      expect(await codeOf(await ask(name, 101))).toBe('400 prompt_over_limit');
      // Refused before it ran: nothing is counted.
      expect((await ask(name, 20, 500)).status).toBe(400);
      expect((await ask(name, 20)).status).toBe(200);
      expect(await codeOf(await ask(name, 1))).toBe(code);
      expect(await codeOf(await ask(name, 101))).toBe('400 prompt_over_limit');
    }
    expect((await ask('watcher', 150)).status).toBe(200);
    const metrics = await (await fetch(`${url}/metrics`, { headers: as(keys['watcher']) })).text();
    for (const line of [
      'lockstep_caller_tokens_total{caller="minute",kind="prompt"} 80',
      'lockstep_caller_tokens_total{caller="minute",kind="completion"} 20',
      'lockstep_caller_refused_total{caller="minute",limit="tokens_per_minute"} 6',
      'lockstep_caller_refused_total{caller="day",limit="tokens_per_day"} 6',
      'lockstep_caller_tokens_total{caller="watcher",kind="prompt"} 150',
      // Two requests of it had a slot; those that were refused are in neither.
      'lockstep_caller_prompt_tokens_count{caller="minute"} 2',
      'lockstep_caller_prompt_tokens_sum{caller="minute"} 80',
      'lockstep_caller_completion_tokens_sum{caller="minute"} 20',
      'lockstep_caller_completion_tokens_bucket{le="16",caller="day"} 2',
    ]) {
      expect(metrics).toContain(line);
    }
  });

  test('generations at once, given back when they end or their client leaves', async () => {
    const { file, keys } = await keysFile({ alice: { limits: { sessions: 2 } }, bob: {} });
    const { post, engine } = await serve({ delayMs: 5 }, { keys: await KeyRing.open(file) });
    const ask = (name: string, init: RequestInit = {}) =>
      post(
        '/v1/completions',
        { prompt: 'Tell me.', max_tokens: 4000, stream: true, temperature: 0 },
        { headers: as(keys[name]), ...init },
      );
    const leaving = new AbortController();
    const both = await Promise.all([
      ask('alice', { signal: leaving.signal }),
      ask('alice', { signal: leaving.signal }),
    ]);
    expect(both.map(({ status }) => status)).toEqual([200, 200]);
    const third = await ask('alice');
    expect(await codeOf(third)).toBe('429 too_many_sessions');
    const other = new AbortController();
    expect((await ask('bob', { signal: other.signal })).status).toBe(200);
    other.abort();
    leaving.abort();
    await until(() => engine.sessions === 0);
    const again = new AbortController();
    expect((await ask('alice', { signal: again.signal })).status).toBe(200);
    again.abort();
  });
});

describe('logs', () => {
  test('the log and the audit log tell who, what, how much, and never a text or a key', async () => {
    const { file, keys } = await keysFile({ alice: {} });
    const lines: string[] = [];
    const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) });
    const auditFile = path.join(folder, 'audit.jsonl');
    const audit = new AuditLog(auditFile, (error) => {
      throw error;
    });
    const { post, url, engine } = await serve(
      { failAt: 300 },
      { log, audit, keys: await KeyRing.open(file) },
    );
    const ask = async (body: object, headers: Record<string, string>) =>
      (await post('/v1/completions', body, { headers })).text();
    const mine = { ...as(keys['alice']), 'x-request-id': 'mine-1' };
    await ask(
      { prompt: 'My diary: zanzibar.', max_tokens: 3, user: 'zanzibar', temperature: 0 },
      mine,
    );
    await ask({ prompt: 'zanzibar '.repeat(40) }, mine);
    await ask({ prompt: 'zanzibar', zanzibar: 1 }, mine);
    await ask({ prompt: 'zanzibar' }, as('ls-zanzibar'));
    await (await fetch(`${url}/health/live`)).text();
    // A client that leaves is written down with what it got until then.
    const leaving = new AbortController();
    engine.faults = { delayMs: 5 };
    const body = { prompt: 'zanzibar', max_tokens: 4000, stream: true, temperature: 0 };
    const left = await post('/v1/completions', body, { headers: mine, signal: leaving.signal });
    const reader = (left.body as ReadableStream).getReader();
    for (let seen = 0; seen < 5; seen++) await reader.read();
    leaving.abort();
    await until(async () => (await readFile(auditFile, 'utf8')).split('\n').length > 5);
    const written = (await readFile(auditFile, 'utf8')).trim().split('\n');
    const audited = written.map((line) => JSON.parse(line));
    const id = (keys['alice'] as string).slice(3, 13);
    expect(audited[0]).toMatchObject({
      event: 'request',
      requestId: 'mine-1',
      caller: 'alice',
      key: id,
      client: '127.0.0.1',
      method: 'POST',
      route: '/v1/completions',
      status: 200,
      code: null,
      prompt_tokens: 19,
      completion_tokens: 3,
      outcome: 'length',
    });
    expect(audited.map(({ caller, status, code }) => [caller, status, code])).toEqual([
      ['alice', 200, null],
      ['alice', 500, 'LS_ENGINE_STEP'],
      ['alice', 400, 'unknown_parameter'],
      [null, 401, 'invalid_api_key'],
      ['alice', 'aborted', null],
    ]);
    for (const one of [audited[0], audited[4]]) {
      expect(one.queue_ms).toBeGreaterThanOrEqual(0);
      expect(one.first_token_ms).toBeGreaterThanOrEqual(one.queue_ms);
      expect(one.ms).toBeGreaterThanOrEqual(one.first_token_ms);
    }
    expect(audited[4].prompt_tokens).toBe(8);
    expect(audited[4].completion_tokens).toBeGreaterThan(0);
    const requests = lines.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'request');
    expect(requests.map(({ caller, code }) => [caller, code]).slice(0, 4)).toEqual([
      ['alice', undefined],
      ['alice', 'LS_ENGINE_STEP'],
      ['alice', 'unknown_parameter'],
      [undefined, 'invalid_api_key'],
    ]);
    for (const text of [written.join('\n'), lines.join('\n')]) {
      expect(text).not.toContain('zanzibar');
      expect(text).not.toContain((keys['alice'] as string).slice(14));
    }
    expect((await stat(auditFile)).mode & 0o777).toBe(0o600);
    audit.close();
  });
});
