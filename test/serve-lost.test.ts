// `lockstep serve` whose engine's process is killed: it says so, and ends where --exit-when-lost is given.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { packageRoot } from '../src/paths.ts';
import { realPython } from './helpers/python.ts';
import { commandLine, descendants, isRunning } from './processes.ts';
import { servedCheckpoint } from './served-checkpoint.ts';
import { type Any, eventsOf, PROMPT, until } from './server-client.ts';

vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 });

const main = path.join(packageRoot, 'dist', 'cli', 'main.js');
let folder: string;
let dir: string;
const running: ChildProcess[] = [];

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-lost-'));
  dir = await servedCheckpoint(folder, undefined, { onnx: false });
});
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function serve(...args: string[]) {
  const child = spawn(process.execPath, [main, 'serve', ...args, '--port', '0', '--json'], {
    env: { ...process.env, OMP_NUM_THREADS: '1' },
  });
  running.push(child);
  let stderr = '';
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  const ended = once(child, 'close') as Promise<[number | null, string | null]>;
  const lines = createInterface({ input: child.stdout });
  const [line] = await Promise.race([
    once(lines, 'line'),
    ended.then(() => {
      throw new Error(stderr);
    }),
  ]);
  const { url } = JSON.parse(line as string) as { url: string };
  const pids = () =>
    descendants(child.pid as number).filter((pid) => /python/.test(commandLine(pid)));
  const ready = async () => {
    const response = await fetch(`${url}/health/ready`);
    return [response.status, ((await response.json()) as Any).status];
  };
  const ask = (body: object) =>
    fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: PROMPT, ...body }),
    });
  return { child, url, pids, ready, ask, stderr: () => stderr, ended };
}

const torch = () => [dir, '--engine', 'torch', '--threads', '1', '--python', realPython];

describe.runIf(process.platform === 'linux')('an engine whose process is killed', () => {
  test('at rest: the server is not ready at once, and stays', async () => {
    const { child, pids, ready, ask, ended } = await serve(...torch());
    expect([await ready(), pids().length]).toEqual([[200, 'ready'], 1]);
    process.kill(pids()[0] as number, 'SIGKILL');
    await until(async () => (await ready())[0] === 503);
    expect(await ready()).toEqual([503, 'engine lost']);
    const refused = await ask({ max_tokens: 1 });
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, null]);
    expect(isRunning(child.pid as number)).toBe(true);
    child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
  });

  test('--exit-when-lost: a running stream gets its error, the audit log its lines, the exit code is 1', async () => {
    const audit = path.join(folder, 'audit.jsonl');
    const { pids, ask, stderr, ended } = await serve(
      ...torch(),
      '--exit-when-lost',
      '--audit',
      audit,
    );
    const [pid] = pids();
    let seen = 0;
    const stream = await eventsOf(
      await ask({ max_tokens: 3000, stream: true, ignore_eos: true }),
      () => {
        seen += 1;
        if (seen === 3) process.kill(pid as number, 'SIGKILL');
      },
    );
    expect(stream.done).toBe(false);
    expect(stream.events.at(-1).error.code).toBe('LS_PYTHON_DIED');
    expect(await ended).toEqual([1, null]);
    expect(stderr()).toMatch(/^error LS_PYTHON_DIED: .*SIGKILL/m);
    expect(stderr()).not.toMatch(/^\s+at /m);
    const lines = (await readFile(audit, 'utf8')).trim().split('\n');
    expect(lines.map((line) => JSON.parse(line)).map(({ event, code }) => [event, code])).toEqual([
      ['start', undefined],
      ['request', 'LS_PYTHON_DIED'],
      ['stop', undefined],
    ]);
  });

  test('exitWhenLost: with several models, when the last is lost', async () => {
    const file = path.join(folder, 'serve.config.json');
    const model = { dir, engine: 'torch', threads: 1, python: realPython };
    const models = ['one', 'two'].map((name) => ({ ...model, name }));
    await writeFile(file, JSON.stringify({ models, exitWhenLost: true }));
    const { pids, ask, stderr, ended, child } = await serve('--config', file);
    const both = pids();
    expect(both).toHaveLength(2);
    process.kill(both[0] as number, 'SIGKILL');
    await until(() => stderr().includes('the other models are served'));
    expect(stderr()).toMatch(/^warning LS_PYTHON_DIED: (one|two): /m);
    const asked = ['one', 'two'].map((model) => ask({ model, max_tokens: 1 }));
    const statuses = (await Promise.all(asked)).map(({ status }) => status);
    expect(statuses.sort()).toEqual([200, 503]);
    expect(isRunning(child.pid as number)).toBe(true);
    // At rest.
    process.kill(both[1] as number, 'SIGKILL');
    expect(await ended).toEqual([1, null]);
    expect(stderr()).toMatch(/^error LS_PYTHON_DIED: /m);
  });
});
