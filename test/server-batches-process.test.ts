// Batches of a real `lockstep serve` that is killed, ended, and given too little room. The model is a fake vLLM, whose
// answers are known in advance.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { writeContract } from '../src/checkpoint/index.ts';
import { packageRoot } from '../src/paths.ts';
import { answers, create, ended, jsonl, line, upload } from './batches-client.ts';
import { canMount, mountSmall } from './helpers/small-disk.ts';
import { type Any, clientOf, type TestClient, until } from './server-client.ts';
import { fakeVllms } from './vllm-fixture.ts';
import { foreseen } from './vllm-foreseen.ts';

const vllm = fakeVllms();
const main = path.join(packageRoot, 'dist', 'cli', 'main.js');
const running = new Set<ChildProcess>();
let root: string;
let folders = 0;

beforeAll(async () => {
  root = await mkdtemp(path.join(os.tmpdir(), 'ls-batch-'));
  // A server of its own reads the contract from the folder.
  await writeContract(vllm.toy.dir, vllm.toy.files);
});
afterEach(async () => {
  await Promise.all([...running].map((child) => kill(child)));
});
afterAll(() => rm(root, { recursive: true, force: true }));

type Process = TestClient & { child: ChildProcess };

/** @param before a command of the shell that is run before, as `ulimit -f 40` */
async function start(folder: string, upstream: string, before = 'true'): Promise<Process> {
  const flags = ['--engine', 'vllm', '--upstream', upstream, '--port', '0', '--json'];
  const own = ['--batches', folder, '--batch-slots', '3'];
  const argv = [process.execPath, main, 'serve', vllm.toy.dir, '--model', 'toy', ...flags, ...own];
  const child = spawn('sh', ['-c', `${before}; exec "$@"`, 'sh', ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let printed = '';
  child.stderr.on('data', (text) => {
    printed += text;
  });
  const closed = once(child, 'close').then(() => {
    throw new Error(printed);
  });
  closed.catch(() => {});
  const lines = createInterface({ input: child.stdout });
  const [first] = (await Promise.race([once(lines, 'line'), closed])) as [string];
  const { url } = JSON.parse(first) as { url?: string };
  if (url === undefined) throw new Error(first);
  while ((await fetch(`${url}/health/ready`)).status !== 200) await sleep(20);
  return { child, ...clientOf(url, Number(new URL(url).port)) };
}

async function kill(child: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): Promise<number> {
  running.delete(child);
  if (child.exitCode !== null) return child.exitCode;
  const closed = once(child, 'close');
  child.kill(signal);
  const [code] = (await closed) as [number];
  return code;
}

const newFolder = () => path.join(root, String(folders++));
const promptOf = (id: string) => `${id}: hello.`;
const MOST = 12;

function judge(all: readonly Any[], count: number): void {
  expect(all.map(({ custom_id }) => custom_id).sort()).toEqual(
    Array.from({ length: count }, (_, i) => String(i)).sort(),
  );
  for (const { custom_id, response } of all) {
    const { choices, usage } = response.body;
    expect(choices[0].text).toBe(foreseen(promptOf(custom_id), MOST));
    expect(usage.completion_tokens).toBe(MOST);
  }
}

/** Lines that a batch has written so far, those that are whole. */
async function written(folder: string, id: string): Promise<string[]> {
  const text = await readFile(path.join(folder, 'batches', id, 'output.jsonl'), 'utf8');
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .slice(0, -1);
}

const idsOf = (lines: readonly string[]): string[] =>
  lines.map((one) => (JSON.parse(one) as Any).custom_id);

describe('a server with batches', () => {
  test('that is killed again and again goes on where it was', { timeout: 240_000 }, async () => {
    const fake = await vllm.opened.fake('--delay', '0.006');
    const folder = newFolder();
    // More than the four kills take: none comes after the end.
    const count = 200;
    const lines = Array.from({ length: count }, (_, i) => line(String(i), { max_tokens: MOST }));
    let served = await start(folder, fake.url);
    const { id } = await create(served, lines);
    const kept = new Set<string>();
    for (let kills = 0; kills < 4; kills++) {
      const before = kept.size;
      await until(async () => (await written(folder, id).catch(() => [])).length >= before + 7, 60);
      await kill(served.child);
      // What was whole then is there to the end, and never runs again.
      const done = await written(folder, id);
      expect(new Set(idsOf(done)).size).toBe(done.length);
      for (const one of kept) expect(done).toContain(one);
      for (const one of done) kept.add(one);
      const { begun } = await fake.seen();
      served = await start(folder, fake.url);
      await until(async () => (await fake.seen()).begun > begun + 2, 60);
      const now = await fake.seen();
      const again = now.bodies.slice(begun - now.begun).map(({ prompt }) => {
        const text = Buffer.from(prompt as number[]).toString();
        return text.slice(0, text.indexOf(':'));
      });
      expect(again.length).toBeGreaterThan(2);
      for (const one of idsOf(done)) expect(again).not.toContain(one);
    }
    const batch = await ended(served, id, 120);
    expect([batch.status, batch.request_counts.completed]).toEqual(['completed', count]);
    const text = await (await served.client.files.content(batch.output_file_id)).text();
    for (const one of kept) expect(text).toContain(`${one}\n`);
    judge(await answers(served, batch.output_file_id), count);
    // Nothing is left of it but its record and its files.
    await until(async () => (await readdir(path.join(folder, 'batches', id))).length === 1);
    expect(await readdir(path.join(folder, 'files'))).toHaveLength(4);
    await kill(served.child);
    const after = await start(folder, fake.url);
    expect(await after.client.batches.retrieve(id)).toEqual(batch);
  });

  test('that is killed in an upload has nothing of it', { timeout: 120_000 }, async () => {
    const fake = await vllm.opened.fake();
    const folder = newFolder();
    const served = await start(folder, fake.url);
    const whole = await upload(served, jsonl([line('a')]));
    const socket = net.connect(served.port, '127.0.0.1');
    socket.on('error', () => {});
    const head = 'content-disposition: form-data; name="file"; filename="a"';
    socket.write(
      `POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9999\r\ncontent-type: multipart/form-data; boundary=X\r\n\r\n--X\r\n${head}\r\n\r\n${'x'.repeat(5000)}`,
    );
    const files = path.join(folder, 'files');
    await until(async () => (await readdir(files)).some((name) => name.endsWith('.part')), 20);
    await kill(served.child);
    socket.destroy();
    const again = await start(folder, fake.url);
    expect((await again.client.files.list()).data.map(({ id }) => id)).toEqual([whole]);
    await until(async () => (await readdir(files)).length === 2);
    // The folder has one server.
    await expect(start(folder, fake.url)).rejects.toThrow('LS_BATCH_LOCK');
  });

  test('that gets SIGTERM ends the lines that run and keeps the others', {
    timeout: 120_000,
  }, async () => {
    const fake = await vllm.opened.fake('--delay', '0.02');
    const folder = newFolder();
    const count = 80;
    const lines = Array.from({ length: count }, (_, i) => line(String(i), { max_tokens: MOST }));
    const served = await start(folder, fake.url);
    const { id } = await create(served, lines);
    await until(async () => (await written(folder, id).catch(() => [])).length >= 4, 60);
    expect(await kill(served.child, 'SIGTERM')).toBe(0);
    const { begun, completed, aborted } = await fake.seen();
    // Every line that ran was written down.
    expect([begun, aborted]).toEqual([completed, 0]);
    expect(await written(folder, id)).toHaveLength(completed);
    const again = await start(folder, fake.url);
    const batch = await ended(again, id, 60);
    judge(await answers(again, batch.output_file_id), count);
    expect((await fake.seen()).begun).toBe(count);
  });
});

describe('a full disk', () => {
  /** Ends a batch with `disk_full`, and looks at what is left. */
  async function fill(served: Process): Promise<Any> {
    const lines = Array.from({ length: 300 }, (_, i) => line(String(i), { max_tokens: MOST }));
    const { id } = await create(served, lines);
    const batch = await ended(served, id, 60);
    expect(batch).toMatchObject({ status: 'failed', errors: { data: [{ code: 'disk_full' }] } });
    const { completed, total } = batch.request_counts;
    expect([total, completed > 10, completed < 300]).toEqual([300, true, true]);
    // What was answered is there, every line of it whole.
    const done = await answers(served, batch.output_file_id);
    expect(done).toHaveLength(completed);
    expect(done[0].response.body.choices[0].text).toBe(foreseen(promptOf('0'), MOST));
    // Others are served.
    const answer = await served.post('/v1/completions', { prompt: 'a', max_tokens: 2 });
    expect(answer.status).toBe(200);
    return batch;
  }

  test('as a limit of the size of files', { timeout: 120_000 }, async () => {
    const fake = await vllm.opened.fake();
    // In blocks of 512 bytes: more than the input, less than the output.
    const served = await start(newFolder(), fake.url, 'ulimit -f 100');
    await fill(served);
    const large = upload(served, 'x'.repeat(60_000));
    await expect(large).rejects.toMatchObject({ status: 507, code: 'disk_full' });
    expect((await ended(served, (await create(served, [line('a')])).id)).status).toBe('completed');
  });

  test.skipIf(!canMount())('as a file system without room', { timeout: 120_000 }, async () => {
    const fake = await vllm.opened.fake();
    const folder = newFolder();
    await mkdir(folder);
    const unmount = mountSmall(folder, '400k');
    try {
      let served = await start(folder, fake.url);
      const filler = path.join(folder, 'filler');
      await writeFile(filler, Buffer.alloc(200_000));
      const batch = await fill(served);
      const large = upload(served, 'x'.repeat(100_000));
      await expect(large).rejects.toMatchObject({ status: 507, code: 'disk_full' });
      expect(
        (await readdir(path.join(folder, 'files'))).filter((one) => one.endsWith('.part')),
      ).toEqual([]);
      // It stays failed.
      await kill(served.child);
      served = await start(folder, fake.url);
      expect(await served.client.batches.retrieve(batch.id)).toEqual(batch);
      await rm(filler);
      const next = await ended(served, (await create(served, [line('a')])).id);
      expect(next.status).toBe('completed');
      await kill(served.child);
    } finally {
      await Promise.all([...running].map((child) => kill(child)));
      unmount();
    }
  });
});
