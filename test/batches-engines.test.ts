// Batches of `lockstep serve` with both real engines on a tiny checkpoint, by OpenAI's clients for Python and JavaScript.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { findPython, pythonEnvironment } from '../src/bridge/index.ts';
import { packageRoot } from '../src/paths.ts';
import { answers, create, ended, jsonl, line } from './batches-client.ts';
import { servedCheckpoint } from './served-checkpoint.ts';
import { type Any, clientOf, PROMPT, type TestClient, until } from './server-client.ts';

const main = path.join(packageRoot, 'dist', 'cli', 'main.js');
/** vLLM brings the official Python client; without vLLM nothing else needs it. */
const withClient = await findPython({ modules: ['openai'] }).catch(() => null);
let folder: string;
let dir: string;
const running: ChildProcess[] = [];

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'ls-batch-'));
  const chat = `{% for m in messages %}{{ m['content'] }}{% endfor %}`;
  dir = await servedCheckpoint(folder, chat);
}, 240_000);

afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function serve(engine: string): Promise<TestClient & { child: ChildProcess }> {
  const own = ['--batches', path.join(folder, engine), '--engine', engine, '--threads', '1'];
  const child = spawn(process.execPath, [main, 'serve', dir, '--port', '0', '--json', ...own], {
    env: { ...process.env, OMP_NUM_THREADS: '1' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.push(child);
  const lines = createInterface({ input: child.stdout });
  const [first] = (await once(lines, 'line')) as [string];
  const { url } = JSON.parse(first) as { url: string };
  return { child, ...clientOf(url, Number(new URL(url).port)) };
}

describe.each(['onnx', 'torch'])('%s', (engine) => {
  test('lines have the answers of HTTP, and let requests pass', { timeout: 180_000 }, async () => {
    const served = await serve(engine);
    const lines = Array.from({ length: 8 }, (_, i) =>
      line(String(i), { prompt: PROMPT.repeat(1 + i), max_tokens: 24 }),
    );
    const { id } = await create(served, lines);
    const begun = async () => (await served.client.batches.retrieve(id)).request_counts?.completed;
    await until(async () => ((await begun()) ?? 0) > 0, 60);
    const direct: Any[] = [];
    for (const { body } of lines.slice(0, 2)) {
      direct.push(await (await served.post('/v1/completions', body)).json());
    }
    const batch = await ended(served, id, 120);
    expect(batch.request_counts).toEqual({ total: 8, completed: 8, failed: 0 });
    const all = await answers(served, batch.output_file_id);
    for (const [i, { choices }] of direct.entries()) {
      const own = all.find(({ custom_id }) => custom_id === String(i));
      expect(own.response.body.choices).toEqual(choices);
    }
    served.child.kill('SIGTERM');
    expect(await once(served.child, 'close')).toEqual([0, null]);
  });

  test.skipIf(withClient === null)('the Python client', { timeout: 180_000 }, async () => {
    const { url } = await serve(engine);
    const to = { url: '/v1/chat/completions' };
    const messages = [{ role: 'user', content: PROMPT }];
    const lines = [
      line('good', {}, { ...to, body: { model: 'tiny', messages, max_tokens: 5, temperature: 0 } }),
      line('bad', {}, { ...to, body: { messages: [], max_tokens: 5 } }),
    ];
    const file = path.join(folder, `${engine}.jsonl`);
    await writeFile(file, jsonl(lines));
    const script = path.join(packageRoot, 'test/python/batch_client.py');
    const ran = await promisify(execFile)(
      withClient?.executable ?? '',
      [script, `${url}/v1`, file],
      {
        env: pythonEnvironment(),
      },
    );
    const told = JSON.parse(ran.stdout) as Any;
    expect(told).toMatchObject({
      batch: {
        status: 'completed',
        request_counts: { total: 2, completed: 1, failed: 1 },
        metadata: { from: 'Python' },
      },
      output: [{ custom_id: 'good', response: { status_code: 200 } }],
      error: [{ custom_id: 'bad', response: { status_code: 400 } }],
      // Page after page; the other one is that of the test before.
      listed: [told.batch.id, expect.stringMatching(/^batch_/)],
      names: [`${engine}.jsonl`, 'lines.jsonl'],
      gone: true,
    });
    expect(told.output[0].response.body.usage.completion_tokens).toBe(5);
  });
});
