// Readiness by digest, restarts, replicas, and that nothing is left running, on real processes.
import { rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { noTelemetry } from '../src/bridge/index.ts';
import { writeContract } from '../src/checkpoint/write.ts';
import { Replica } from '../src/engines/vllm/replica.ts';
import type { LockstepError } from '../src/errors.ts';
import { realPython } from './helpers/python.ts';
import { descendants, ended, environmentOf, isRunning } from './processes.ts';
import { type Any, eventsOf, PROMPT, until } from './server-client.ts';
import { makeToy, type Toy } from './server-toy.ts';
import { Opened, pidIn } from './vllm-upstream.ts';

let toy: Toy;
let opened: Opened;

// The processes that Python starts are looked at.
process.env['PYTHON_BIN'] = realPython;

beforeAll(async () => {
  toy = await makeToy();
  await writeContract(toy.dir, toy.files);
  opened = new Opened(toy);
});
afterEach(() => opened.close());
afterAll(() => rm(toy.dir, { recursive: true, force: true }));

const status = async (url: string) => {
  const response = await fetch(`${url}/health/ready`);
  const body = (await response.json()) as Any;
  return { http: response.status, status: body.status as string, code: body.error?.code as string };
};
const failure = (work: Promise<unknown>): Promise<LockstepError> =>
  work.then(
    () => {
      throw new Error('expected a failure');
    },
    (error) => error as LockstepError,
  );
describe.skipIf(process.platform !== 'linux')('what a vLLM of ours gets of the environment', () => {
  test('no secret of the server, its own key, no telemetry', async () => {
    const secrets = { VLLM_API_KEY: 'of the server', AWS_SECRET_ACCESS_KEY: 'aws', HF_TOKEN: 'hf' };
    const before = { ...process.env };
    Object.assign(process.env, secrets);
    try {
      const { engine } = await opened.supervise([]);
      const pids = engine.pids().flatMap((pid) => [pid, ...descendants(pid)]);
      expect(pids.length).toBeGreaterThan(1);
      for (const pid of pids) {
        const found = environmentOf(pid);
        expect(found).toMatchObject({
          ...noTelemetry,
          HF_HUB_OFFLINE: '1',
          VLLM_SERVER_DEV_MODE: '0',
        });
        expect(found['VLLM_API_KEY']).not.toBe(secrets.VLLM_API_KEY);
        expect(found['VLLM_API_KEY']?.length).toBeGreaterThan(20);
        expect(found).not.toHaveProperty('AWS_SECRET_ACCESS_KEY');
        expect(found).not.toHaveProperty('HF_TOKEN');
      }
    } finally {
      for (const name of Object.keys(secrets)) delete process.env[name];
      Object.assign(process.env, before);
    }
  });
});

describe.skipIf(process.platform !== 'linux')('where a vLLM of ours listens', () => {
  test('on a socket that no other user can reach', async () => {
    const { engine, url } = await opened.supervise([], { replicas: 2 });
    const { replicas } = (await (await fetch(`${url}/lockstep/engine`)).json()) as Any;
    const sockets = replicas.map((one: Any) => /^unix:(.+)$/.exec(one.url)?.[1] as string);
    expect(new Set(sockets).size).toBe(2);
    for (const socket of sockets) {
      expect((await stat(socket)).isSocket()).toBe(true);
      const folder = await stat(path.dirname(socket));
      expect([folder.mode & 0o777, folder.uid]).toEqual([0o700, process.getuid?.()]);
    }
    expect(engine.relay.health()).toEqual({ ready: true, status: 'ready' });
  });
});

describe('readiness of vLLMs that run already', () => {
  test.each([
    ['no plugin', ['--no-plugin'], 'LS_VLLM_PLUGIN'],
    ['another digest', ['--digest', 'f'.repeat(64)], 'LS_VLLM_DIGEST'],
    ['a stock architecture', ['--architecture', 'LlamaForCausalLM'], 'LS_VLLM_STOCK'],
    ['no engine process', ['--engines', '0'], 'LS_VLLM_DIGEST'],
  ])('%s: 503 with its code, and nothing is generated', async (_, args, code) => {
    const fake = await opened.fake(...args);
    const { url, post } = await opened.relay([fake.url]);
    await until(async () => (await status(url)).code === code);
    expect(await status(url)).toEqual({ http: 503, status: 'upstream not ready', code });
    for (const stream of [false, true]) {
      const response = await post('/v1/completions', { prompt: PROMPT, stream });
      expect([response.status, ((await response.json()) as Any).error.code]).toEqual([503, code]);
    }
    expect((await fake.seen()).paths['/v1/completions']).toBeUndefined();
  });

  test('nobody there, then the right one, then a wrong one, then the right one again', async () => {
    const fake = await opened.fake('--no-plugin');
    const gone = await opened.fake();
    gone.child.kill('SIGKILL');
    const { url, post } = await opened.relay([gone.url, fake.url]);
    expect((await status(url)).http).toBe(503);
    await fake.become({ plugin: true });
    await until(async () => (await status(url)).http === 200);
    expect((await post('/v1/completions', { prompt: PROMPT })).status).toBe(200);
    await fake.become({ digest: '0'.repeat(64) });
    await until(async () => (await status(url)).http === 503);
    expect((await post('/v1/completions', { prompt: PROMPT })).status).toBe(503);
    await fake.become({ digest: toy.files.contract.digest });
    await until(async () => (await status(url)).http === 200);
  });

  test.each(['ftp://h:1', 'http://h:1/path', 'nonsense', 'http://user:key@h:1'])(
    'the address %s is refused',
    async (url) => {
      expect((await failure(opened.relay([url]))).code).toBe('LS_VLLM_UPSTREAM');
    },
  );
});

describe('a supervised vLLM', () => {
  test('starts with a key of its own, is believed by its digest, serves, and goes', async () => {
    const { url, post, fakes, lines, engine, server } = await opened.supervise([
      '--engine-process',
    ]);
    expect((await status(url)).http).toBe(200);
    expect((await post('/v1/completions', { prompt: PROMPT })).status).toBe(200);
    const { keys, pid } = await (fakes[0] as Any).seen();
    expect(keys.filter((key: string) => /^Bearer [\w-]{32}$/.test(key))).toHaveLength(1);
    const orphan = pidIn(lines, 'engine');
    const guard = engine.pids()[0] as number;
    expect([pid, orphan, guard].map(isRunning)).toEqual([true, true, true]);
    await server.close();
    expect([pid, orphan, guard].map(isRunning)).toEqual([false, false, false]);
  });

  test.each([
    ['no plugin', ['--no-plugin'], 'LS_VLLM_PLUGIN'],
    ['another digest', ['--digest', 'f'.repeat(64)], 'LS_VLLM_DIGEST'],
    ['a stock architecture', ['--architecture', 'LlamaForCausalLM'], 'LS_VLLM_STOCK'],
    ['an error at its start', ['--crash-at-start', 'ValueError: KV cache'], 'LS_VLLM_START'],
    [
      'the plugin’s refusal',
      ['--crash-at-start', 'x.LockstepError: expected no A, got B\\n[LS_VLLM_FEATURE] drop A'],
      'LS_VLLM_FEATURE',
    ],
  ])('with %s is refused, and nothing is left of it', async (_, args, code) => {
    const lines: string[] = [];
    const closed = vi.spyOn(Replica.prototype, 'close');
    const error = await failure(
      opened.supervise(['--engine-process', ...args], { onLine: (line) => lines.push(line) }),
    );
    expect(closed).toHaveBeenCalledTimes(1);
    closed.mockRestore();
    expect(error.code).toBe(code);
    expect(error.fix).toBeTruthy();
    const pids = ['pid', 'engine'].map((word) => pidIn(lines, word));
    // What crashes at its start has started nothing.
    const told = args[0] !== '--crash-at-start';
    expect(pids.map(Number.isInteger)).toEqual([told, told]);
    expect(pids.map(isRunning)).toEqual([false, false]);
  });

  test('killed under streams: each ends cleanly, and the next is served by the restarted one', async () => {
    const { url, post, fakes, lines } = await opened.supervise([
      '--delay',
      '0.05',
      '--engine-process',
    ]);
    const fake = fakes[0] as Any;
    const { pid } = await fake.seen();
    const orphan = pidIn(lines, 'engine');
    // Only a stream that has a token ends with its engine: before that, another try is made.
    const begun = new Set<number>();
    const streams = Array.from({ length: 16 }, async (_, i) => {
      const ask = { prompt: PROMPT, max_tokens: 500, stream: true };
      return eventsOf(await post('/v1/completions', ask), (event) => {
        if (event.choices?.[0]?.text) begun.add(i);
      });
    });
    await until(() => begun.size === 16, 20);
    process.kill(pid, 'SIGKILL');
    for (const { events, done } of await Promise.all(streams)) {
      expect(done).toBe(false);
      expect(events.at(-1).error.code).toBe('LS_VLLM_DIED');
    }
    const down = await post('/v1/completions', { prompt: PROMPT });
    if (down.status !== 200) {
      expect(down.status).toBe(503);
      expect(down.headers.get('retry-after')).toBeTruthy();
    }
    await until(async () => (await status(url)).http === 200, 20);
    expect((await post('/v1/completions', { prompt: PROMPT, max_tokens: 4 })).status).toBe(200);
    expect((await fake.seen()).pid).not.toBe(pid);
    await ended(orphan);
  });

  test('its states in /health: engine unreachable, restarting, ready', async () => {
    const { url, post, fakes } = await opened.supervise([], { pauseMs: 500 });
    const fake = fakes[0] as Any;
    const { pid } = await fake.seen();
    const { replicas } = (await (await fetch(`${url}/lockstep/engine`)).json()) as Any;
    // The process lives, so that nobody sees it end, and no new connection reaches it.
    await fake.fault({ kind: 'drop' });
    await rm(replicas[0].url.replace('unix:', ''));
    expect((await post('/v1/completions', { prompt: PROMPT })).status).toBe(503);
    expect(isRunning(pid)).toBe(true);
    const unreachable = { http: 503, status: 'engine unreachable', code: 'LS_VLLM_UNREACHABLE' };
    expect(await status(url)).toEqual(unreachable);
    process.kill(pid, 'SIGKILL');
    await until(async () => (await status(url)).status === 'restarting');
    const short = await fetch(`${url}/health`);
    expect([short.status, await short.json()]).toEqual([503, { status: 'restarting' }]);
    await until(async () => (await status(url)).http === 200, 20);
    expect((await status(url)).status).toBe('ready');
  });

  test('one that comes back under another digest is ended, not believed', async () => {
    const file = path.join(toy.dir, 'digest');
    await writeFile(file, toy.files.contract.digest);
    const { url, fakes, engine, lines } = await opened.supervise(['--digest-file', file]);
    await writeFile(file, '0'.repeat(64));
    process.kill((await (fakes[0] as Any).seen()).pid, 'SIGKILL');
    expect((await engine.failed).code).toBe('LS_VLLM_DIGEST');
    expect(await status(url)).toEqual({
      http: 503,
      status: 'engine lost',
      code: 'LS_VLLM_DIGEST',
    });
    expect(isRunning(pidIn(lines, 'pid'))).toBe(false);
  });

  test('a crash loop is given up with the last lines', async () => {
    const file = path.join(toy.dir, 'may-run');
    await writeFile(file, '');
    const { url, engine, fakes } = await opened.supervise(['--crash-unless', file], {
      crashes: 2,
      pauseMs: 20,
    });
    await rm(file);
    const { pid } = await (fakes[0] as Any).seen();
    process.kill(pid, 'SIGKILL');
    const error = await engine.failed;
    expect(error.code).toBe('LS_VLLM_CRASHED');
    expect(error.message).toContain('3 crashes in a row');
    expect(await status(url)).toMatchObject({ http: 503, status: 'engine lost' });
  });

  test('closing lets a running stream end, within bounds', async () => {
    const start = new AbortController();
    const { post, server, fakes } = await opened.supervise(
      ['--delay', '0.01'],
      { signal: start.signal },
      { drainMs: 5000 },
    );
    const reading = eventsOf(
      await post('/v1/completions', { prompt: PROMPT, max_tokens: 300, stream: true }),
    );
    await until(async () => (await (fakes[0] as Any).seen()).begun === 1);
    // What would have ended the start must not end what runs.
    start.abort();
    const closed = server.close();
    const { events, done } = await reading;
    expect(done).toBe(true);
    expect(events.at(-1).choices[0].finish_reason).toBe('length');
    await closed;
  });

  test('a start that is given up leaves nothing', async () => {
    const start = new AbortController();
    const lines: string[] = [];
    const started = opened.supervise(['--engine-process', '--no-health'], {
      signal: start.signal,
      onLine: (line) => lines.push(line),
    });
    const error = failure(started);
    await until(() => lines.some((line) => line.startsWith('listening')));
    start.abort(new Error('enough'));
    expect((await error).message).toBe('enough');
    expect([pidIn(lines, 'pid'), pidIn(lines, 'engine')].map(isRunning)).toEqual([false, false]);
  });
});

describe('several replicas', () => {
  test('a common prefix goes to one, the others share the rest, and one may die', async () => {
    const { post, fakes, url } = await opened.supervise(['--delay', '0.003'], { replicas: 3 });
    const count = async () =>
      Promise.all(fakes.map(async (fake) => (await fake.seen()).paths['/v1/completions'] ?? 0));
    const ask = async (prompt: string) => {
      const response = await post('/v1/completions', { prompt, max_tokens: 3 });
      expect(response.status).toBe(200);
    };
    let conversation = PROMPT;
    for (let turn = 0; turn < 6; turn++) {
      await ask(conversation);
      conversation += ` And turn ${turn} came, with its storm. `;
    }
    expect((await count()).filter((one) => one > 0)).toEqual([6]);
    await Promise.all(Array.from({ length: 90 }, (_, i) => ask(`${i * 7919}. ${PROMPT}`)));
    const spread = await count();
    expect(Math.min(...spread)).toBeGreaterThan(15);
    const victim = spread.indexOf(Math.max(...spread));
    const { pid } = await (fakes[victim] as Any).seen();
    const wave = Array.from({ length: 60 }, async (_, i) => {
      const response = await post('/v1/completions', {
        prompt: `${i}! ${PROMPT}`,
        max_tokens: 200,
        stream: true,
      });
      return eventsOf(response);
    });
    await until(async () => (await (fakes[victim] as Any).seen()).running > 0);
    process.kill(pid, 'SIGKILL');
    let complete = 0;
    for (const { events, done } of await Promise.all(wave)) {
      const last = events.at(-1);
      if (done) {
        complete += 1;
        expect(last.choices[0].finish_reason).toBe('length');
        expect(events.map((event) => event.choices[0].text).join('')).toHaveLength(200);
      } else expect(last.error.code).toBe('LS_VLLM_DIED');
    }
    expect(complete).toBeGreaterThan(30);
    expect((await status(url)).http).toBe(200);
    await ask(PROMPT);
  });
});
