// `lockstep serve` and `lockstep keys` as processes: keys and certificates read again, signals, the end.
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { writeContract } from '../src/checkpoint/write.ts';
import { packageRoot } from '../src/paths.ts';
import { closeCollectors, collector } from './collector.ts';
import { makeCertificate } from './helpers/certificate.ts';
import { type Any, eventsOf, PROMPT, until } from './server-client.ts';
import { makeToy, type Toy } from './server-toy.ts';
import { type Fake, Opened } from './vllm-upstream.ts';

const main = path.join(packageRoot, 'dist', 'cli', 'main.js');
let toy: Toy;
let opened: Opened;
const running: ChildProcess[] = [];
let files = 0;

beforeAll(async () => {
  toy = await makeToy(null);
  await writeContract(toy.dir, toy.files);
  opened = new Opened(toy);
});
afterEach(async () => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
  closeCollectors();
  await opened.close();
});
afterAll(() => rm(toy.dir, { recursive: true, force: true }));

const at = (name: string) => path.join(toy.dir, name);

async function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  try {
    return { code: 0, ...(await promisify(execFile)(process.execPath, [main, ...args])) };
  } catch (error) {
    return error as Any;
  }
}

async function addKey(file: string, name: string, ...options: string[]): Promise<string> {
  const { stdout } = await run('keys', 'add', file, name, ...options, '--json');
  return JSON.parse(stdout).key;
}

interface Serving {
  url: string;
  child: ChildProcess;
  fake: Fake;
  stderr(): string;
  ended: Promise<[number | null, string | null]>;
}

/** `lockstep serve` in front of a vLLM that a test runs. */
async function serve(...options: string[]): Promise<Serving> {
  const fake = await opened.fake('--delay', '0.01');
  const base = ['serve', toy.dir, '--engine', 'vllm', '--upstream', fake.url];
  const child = spawn(process.execPath, [main, ...base, '--port', '0', '--json', ...options]);
  running.push(child);
  let stderr = '';
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  const ended = once(child, 'close') as Serving['ended'];
  const [line] = await Promise.race([
    once(createInterface({ input: child.stdout }), 'line'),
    ended.then(() => {
      throw new Error(stderr);
    }),
  ]);
  const { url } = JSON.parse(line as string) as { url: string };
  if (url.startsWith('http:')) {
    await until(async () => (await fetch(`${url}/health/ready`)).status === 200, 20);
  }
  return { url, child, fake, stderr: () => stderr, ended };
}

const ask = (url: string, max_tokens: number, key = 'none') =>
  fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
    body: JSON.stringify({ prompt: PROMPT, max_tokens, stream: true }),
  });

describe('lockstep keys', () => {
  test('adds, lists and revokes; a key is shown once and only its hash is kept', async () => {
    const file = at(`keys-${files++}.json`);
    const shown = await run('keys', 'add', file, 'alice', '--requests', '60', '--budget', '100000');
    const key = /^ls-[a-z2-7]{10}-[\w-]{43}$/m.exec(shown.stdout)?.[0] as string;
    expect(key).toBeDefined();
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readFile(file, 'utf8')).not.toContain(key.slice(14));
    await addKey(file, 'bob', '--sessions', '2', '--tokens', '5000', '--weight', '3', '--metrics');
    const { stdout: list } = await run('keys', 'list', file);
    expect(list).toContain('60 requests/min, 100000 tokens/day');
    expect(list).toContain('5000 tokens/min, 2 at once, weight 3, may read metrics');
    const { stdout: json } = await run('keys', 'list', file, '--json');
    expect(JSON.parse(json).keys.map((one: Any) => one.name)).toEqual(['alice', 'bob']);
    expect(list + json).not.toContain('scrypt');
    expect((await run('keys', 'revoke', file, 'alice')).code).toBe(0);
    expect(await run('keys', 'list', file)).toMatchObject({
      stdout: expect.not.stringContaining('alice'),
    });
    for (const [args, code] of [
      [['add', file, 'bob'], 'LS_KEYS_NAME'],
      [['add', file, 'key'], 'LS_KEYS_NAME'],
      [['add', file, 'a b'], 'LS_KEYS_NAME'],
      [['revoke', file, 'nobody'], 'LS_KEYS_NAME'],
      [['list', at('none.json')], 'LS_KEYS_FILE'],
      [
        ['add', file, 'dora', '--weight', '101'],
        'LS_KEYS_LIMIT: expected a weight from 1 to 100, got 101\n',
      ],
    ] as const) {
      const refused = await run('keys', ...args);
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining(code)]);
    }
    await writeFile(`${file}.lock`, '');
    expect((await run('keys', 'add', file, 'carol')).stderr).toContain('LS_KEYS_LOCK');
  });
});

describe('lockstep serve', () => {
  test.each([
    ['a file that is not there', async () => {}, 'LS_KEYS_FILE'],
    ['a file that others may read', (file: string) => chmod(file, 0o644), 'LS_KEYS_MODE'],
    ['a broken file', (file: string) => writeFile(file, '{"lockstepKeys": 1'), 'LS_KEYS_FORMAT'],
  ])('%s is refused at the start', async (what, change, code) => {
    const file = at(`keys-${files++}.json`);
    if (what !== 'a file that is not there') await addKey(file, 'alice');
    await change(file);
    const refused = await run('serve', toy.dir, '--port', '0', '--keys', file);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining(code)]);
    expect(refused.stderr).not.toMatch(/^\s+at /m);
  });

  test('SIGHUP: keys are read again, a broken file leaves them, all is audited', async () => {
    const file = at(`keys-${files++}.json`);
    const auditFile = at('audit.jsonl');
    const alice = await addKey(file, 'alice');
    const { url, child, stderr, ended } = await serve('--keys', file, '--audit', auditFile);
    const status = async (key: string) =>
      (await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${key}` } })).status;
    expect(await status(alice)).toBe(200);
    const bob = await addKey(file, 'bob');
    await run('keys', 'revoke', file, 'alice');
    expect([await status(alice), await status(bob)]).toEqual([200, 401]);
    child.kill('SIGHUP');
    await until(async () => (await status(bob)) === 200);
    expect(await status(alice)).toBe(401);
    const scraper = await addKey(file, 'scraper', '--metrics');
    child.kill('SIGHUP');
    await until(async () => (await status(scraper)) === 200);
    const reloads = async () => {
      const headers = { authorization: `Bearer ${scraper}` };
      const text = await (await fetch(`${url}/metrics`, { headers })).text();
      const of = (name: string) =>
        ['keys', 'tls', 'models', 'audit'].map((what) =>
          Number(new RegExp(`^${name}{what="${what}"} (\\d+)`, 'm').exec(text)?.[1]),
        );
      return [of('lockstep_reload_failed_total'), of('lockstep_reload_stale')];
    };
    const none = [0, 0, 0, 0];
    expect(await reloads()).toEqual([none, none]);
    await chmod(file, 0o644);
    child.kill('SIGHUP');
    await until(() => stderr().includes('LS_KEYS_MODE'));
    expect(stderr()).toContain('the previous keys stay in use');
    expect(await status(bob)).toBe(200);
    expect(await reloads()).toEqual([
      [1, 0, 0, 0],
      [1, 0, 0, 0],
    ]);
    await chmod(file, 0o600);
    child.kill('SIGHUP');
    await until(async () => (await reloads())[1]?.[0] === 0);
    expect(await reloads()).toEqual([[1, 0, 0, 0], none]);
    child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
    const lines = (await readFile(auditFile, 'utf8')).trim().split('\n');
    const events = lines.map((line) => JSON.parse(line)).filter(({ event }) => event !== 'request');
    expect(events.map(({ time: _, ...rest }) => rest)).toEqual([
      { event: 'start', keys: 1 },
      { event: 'keys', keys: 1, added: ['bob'], removed: ['alice'] },
      { event: 'keys', keys: 2, added: ['scraper'], removed: [] },
      { event: 'keys', code: 'LS_KEYS_MODE' },
      { event: 'keys', keys: 2, added: [], removed: [] },
      { event: 'stop' },
    ]);
    for (const key of [alice, bob]) expect(lines.join()).not.toContain(key.slice(14));
  });

  test('SIGHUP: an audit file that cannot be opened again is told of, and all goes on', async () => {
    const folder = at('logs');
    const auditFile = path.join(folder, 'audit.jsonl');
    const kept = at('audit-kept.jsonl');
    await mkdir(folder);
    const { url, child, stderr, ended } = await serve('--audit', auditFile);
    await rename(auditFile, kept);
    await rm(folder, { recursive: true });
    child.kill('SIGHUP');
    await until(() => stderr().includes('LS_AUDIT_FILE'));
    const metrics = async () => (await fetch(`${url}/metrics`)).text();
    expect(await metrics()).toContain('lockstep_reload_failed_total{what="audit"} 1\n');
    expect(await metrics()).toContain('lockstep_reload_stale{what="audit"} 1\n');
    expect((await ask(url, 1)).status).toBe(200);
    await until(async () => (await readFile(kept, 'utf8')).includes('"event":"request"'));
    await mkdir(folder);
    child.kill('SIGHUP');
    await until(() => existsSync(auditFile));
    expect(await metrics()).toContain('lockstep_reload_stale{what="audit"} 0\n');
    child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
    expect(await readFile(auditFile, 'utf8')).toContain('"event":"stop"');
    expect(stderr().match(/LS_AUDIT/g)).toHaveLength(1);
  });

  test('a start that ends at the port or at the batches has its end in the audit log', async () => {
    const holder = createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const { port } = holder.address() as AddressInfo;
    const foreign = at('foreign');
    await mkdir(foreign);
    await writeFile(path.join(foreign, 'letter.txt'), '');
    const upstream = ['--engine', 'vllm', '--upstream', 'http://127.0.0.1:9'];
    try {
      for (const [options, code] of [
        [['--port', `${port}`], 'LS_SERVE_PORT'],
        [['--port', '0', '--batches', foreign], 'LS_BATCH_FOLDER'],
      ] as const) {
        const file = at(`audit-${code}.jsonl`);
        const { stderr } = await run('serve', toy.dir, ...upstream, ...options, '--audit', file);
        expect(stderr).toContain(code);
        const lines = (await readFile(file, 'utf8')).trim().split('\n');
        expect(lines.map((line) => JSON.parse(line).event)).toEqual(['start', 'stop']);
      }
    } finally {
      holder.close();
    }
  });

  test('SIGHUP: another certificate, without a new start', async () => {
    const [cert, key] = [at('cert.pem'), at('key.pem')];
    const make = (name: string) => makeCertificate(name, cert, key);
    await make('one');
    const { url, child, stderr } = await serve('--tls-cert', cert, '--tls-key', key);
    expect(url).toMatch(/^https:/);
    const name = () => {
      const to = url.replace('https://', '');
      const said = execFileSync('openssl', ['s_client', '-connect', to], {
        input: '',
        stdio: ['pipe', 'pipe', 'ignore'],
      });
      return /CN ?= ?(\w+)/.exec(said.toString())?.[1];
    };
    expect(name()).toBe('one');
    await make('two');
    child.kill('SIGHUP');
    await until(() => name() === 'two');
    await writeFile(cert, 'broken');
    child.kill('SIGHUP');
    await until(() => stderr().includes('LS_SERVE_TLS'));
    expect(name()).toBe('two');
    const scraped = execFileSync('curl', ['-sk', `${url}/metrics`], { encoding: 'utf8' });
    expect(scraped).toContain('lockstep_reload_stale{what="tls"} 1\n');
  });

  test('SIGTERM: not ready but open, then closed; no stream is cut, one line is logged', async () => {
    const options = ['--pre-drain', '15', '--drain', '60', '--log', 'info'];
    const { url, child, stderr, ended } = await serve(...options);
    const streams = await Promise.all(Array.from({ length: 6 }, () => ask(url, 300)));
    child.kill('SIGTERM');
    await until(async () => (await fetch(`${url}/health/ready`)).status === 503);
    // A balancer has not looked yet.
    streams.push(...(await Promise.all(Array.from({ length: 2 }, () => ask(url, 300)))));
    for (const { events, done } of await Promise.all(streams.map((one) => eventsOf(one)))) {
      expect(done).toBe(true);
      expect(events.at(-1).choices[0].finish_reason).toBe('length');
    }
    expect(await ended).toEqual([0, null]);
    const lines = stderr().trim().split('\n');
    const told = lines.map((line) => JSON.parse(line)).filter(({ msg }) => msg === 'shutdown');
    expect(told).toHaveLength(1);
    expect(told[0]).toMatchObject({ cut: 0, refused: 0 });
  });

  test('--otlp-traces-endpoint: spans are sent, the last ones at the end', async () => {
    const { url: endpoint, spans } = await collector();
    const { url, child, ended } = await serve('--otlp-traces-endpoint', endpoint);
    expect((await eventsOf(await ask(url, 5))).done).toBe(true);
    child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
    expect(spans().map(({ name }) => name)).toContain('POST /v1/completions');
  });

  test('a second signal ends it at once', async () => {
    const { url, child, ended } = await serve('--pre-drain', '500', '--drain', '500');
    expect((await ask(url, 3000)).status).toBe(200);
    child.kill('SIGTERM');
    await until(async () => (await fetch(`${url}/health`)).status === 503);
    child.kill('SIGTERM');
    expect(await ended).toEqual([130, null]);
  });

  test('--stall-timeout: an answer of vLLM that falls silent is given up after so long', async () => {
    const { url, fake } = await serve('--stall-timeout', '0.5');
    await fake.fault({ kind: 'stall', seconds: 4, after: 3 });
    const { events, done } = await eventsOf(await ask(url, 20));
    expect([done, events.at(-1).error.code]).toEqual([false, 'LS_VLLM_STALLED']);
    expect(events.at(-1).error.message).toContain('nothing for 0.5 s');
  });

  test('--rate off: no limit on an open address, which has 600 a minute without it', async () => {
    const [open, usual] = await Promise.all([
      serve('--host', '0.0.0.0', '--rate', 'off'),
      serve('--host', '0.0.0.0'),
    ]);
    const models = async ({ url }: Serving) => {
      const response = await fetch(`${url}/v1/models`);
      await response.text();
      return [response.status, response.headers.get('ratelimit-policy')];
    };
    expect(await models(usual)).toEqual([200, expect.stringContaining('q=600; w=60')]);
    for (let i = 0; i < 610; i += 61) {
      for (const told of await Promise.all(Array.from({ length: 61 }, () => models(open)))) {
        expect(told).toEqual([200, null]);
      }
    }
  });

  test.each([
    [['--tls-cert', 'a.pem'], 'expected --tls-cert and --tls-key'],
    [['--stall-timeout', '0'], 'expected a number above 0'],
    [['--rate', '0'], 'expected a whole number of at least 1, or off'],
    [['--drain', 'soon'], 'expected a number of at least 0'],
    [['--trust-proxy', 'proxy.example'], 'LS_SERVE_PROXY'],
    [['--audit', '/'], 'LS_AUDIT_FILE'],
    [['--exit-when-lost'], 'expected the engine onnx or torch with --exit-when-lost, got vllm'],
    [['--otlp-traces-endpoint', 'localhost:4318'], 'expected an address for traces'],
  ])('%j is refused', async (options, words) => {
    // A vLLM that is not there: the server starts all the same, unless an option is refused.
    const upstream = ['--engine', 'vllm', '--upstream', 'http://127.0.0.1:9'];
    const refused = await run('serve', toy.dir, '--port', '0', ...upstream, ...options);
    expect(refused.code).toBeGreaterThan(0);
    expect(refused.stderr).toContain(words);
  });
});
