// SIGHUP asks a server to read its keys again; one that comes while it starts must not end it.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { writeContract } from '../../src/checkpoint/index.ts';
import { packageRoot } from '../../src/paths.ts';
import { fakeVllms } from '../vllm-fixture.ts';

const main = path.join(packageRoot, 'dist', 'cli', 'main.js');
const vllm = fakeVllms();

test('SIGHUP while the server starts: it starts, and reads its keys again', {
  timeout: 180_000,
}, async () => {
  const fake = await vllm.opened.fake();
  await writeContract(vllm.toy.dir, vllm.toy.files);
  const keys = path.join(vllm.toy.dir, 'keys.json');
  const add = (name: string): string =>
    JSON.parse(
      execFileSync(process.execPath, [main, 'keys', 'add', keys, name, '--json'], {
        encoding: 'utf8',
      }),
    ).key;
  add('first');
  const flags = ['--engine', 'vllm', '--upstream', fake.url, '--port', '0', '--keys', keys];
  const child = spawn(process.execPath, [main, 'serve', vllm.toy.dir, ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const closed = once(child, 'close');
  let url: string | undefined;
  let later: string | undefined;
  for await (const line of createInterface({ input: child.stderr })) {
    // The keys were read before anything is printed, and the server listens only after the last line.
    if (later === undefined) {
      later = add('second');
      child.kill('SIGHUP');
    }
    url ??= /page (http:\/\/[^/]+)/.exec(line)?.[1];
    if (url !== undefined && /^keys: 2 /.test(line)) break;
  }
  expect(url).toBeDefined();
  const headers = { authorization: `Bearer ${later}` };
  expect((await fetch(`${url}/v1/models`, { headers })).status).toBe(200);
  child.kill('SIGTERM');
  expect((await closed)[0]).toBe(0);
});
