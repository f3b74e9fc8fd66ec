// `lockstep serve --engine vllm` with the real vLLM: answers, aborts, kills, and that nothing is left.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findPython, type Python, pythonEnvironment } from '../../src/bridge/index.ts';
import { readContract } from '../../src/contract/index.ts';
import { generate } from '../../src/engines/generate.ts';
import { Sequence } from '../../src/engines/sequence.ts';
import { openTorchEngine } from '../../src/engines/torch.ts';
import { vllmModules } from '../../src/engines/vllm/index.ts';
import { packageRoot } from '../../src/paths.ts';
import { Segmenter } from '../../src/planner/index.ts';
import { loadTokenizer } from '../../src/planner/tokenizer.ts';
import { ended, isRunning } from '../processes.ts';
import { type Any, clientOf, eventsOf, type TestClient, until } from '../server-client.ts';

const TEXT =
  'The rain fell in torrents. It was a dark and stormy night! And then? Then the wind came. ';

let folder: string;
let dir: string;
let python: Python;
/** Every server started, for the end to see that none stays. */
const started: ChildProcess[] = [];
let server: TestClient & { child: ChildProcess; stderr: () => string };

/** Processes below this one, the farthest first. */
function below(pid: number): { pid: number; name: string }[] {
  const rows = execFileSync('ps', ['-eo', 'pid,ppid,args'], { encoding: 'utf8' })
    .split('\n')
    .flatMap((line) => {
      const found = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line);
      return found === null
        ? []
        : [{ pid: Number(found[1]), parent: Number(found[2]), name: found[3] as string }];
    });
  const tree = [{ pid, name: '' }];
  for (const { pid: parent } of tree) tree.push(...rows.filter((row) => row.parent === parent));
  return tree.slice(1).reverse();
}

async function start(...flags: string[]) {
  const child = spawn(
    process.execPath,
    [
      ...[path.join(packageRoot, 'dist/cli/main.js'), 'serve', dir, '--engine', 'vllm'],
      ...['--model', 'tiny', '--port', '0', '--json', '--max-tokens', '1024'],
      ...['--python', python.executable, '--', '--enforce-eager', '--max-num-seqs', '64', ...flags],
    ],
    {
      env: { ...process.env, OMP_NUM_THREADS: '1', VLLM_CPU_KVCACHE_SPACE: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  started.push(child);
  let stderr = '';
  child.stderr?.on('data', (text) => {
    stderr += text;
  });
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const ready = once(lines, 'line').then(([line]) => JSON.parse(line) as { url: string });
  const died = once(child, 'close').then(() => {
    throw new Error(`it ended: ${stderr}`);
  });
  died.catch(() => {});
  const { url } = await Promise.race([ready, died]);
  return { child, stderr: () => stderr, ...clientOf(url, Number(new URL(url).port)) };
}

async function engine(): Promise<Any> {
  return (await fetch(`${server.url}/lockstep/engine`)).json();
}

/** Whether vLLM runs nothing and holds no KV block for anyone. */
async function idle(): Promise<boolean> {
  const { requests, kv, sessions } = await engine();
  const blocks = kv.groups.map((group: Any) => group.blocks);
  return (
    sessions === 0 && requests.running === 0 && requests.waiting === 0 && !blocks.some(Boolean)
  );
}

beforeAll(async () => {
  python = await findPython({ modules: vllmModules });
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-serve-vllm-'));
  const make = [
    'import sys; from pathlib import Path; import checkpoints',
    'folder = Path(sys.argv[1]); model = checkpoints.write_model(folder / "model")',
    `(model / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")`,
    'print(checkpoints.attach(folder, model, policy="sentences", least=8, most=64))',
  ].join('\n');
  const extra = ['test/vllm', 'test/python'].map((one) => path.join(packageRoot, one));
  dir = execFileSync(python.executable, ['-c', make, folder], {
    env: { ...pythonEnvironment(process.env, extra), OMP_NUM_THREADS: '1' },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim();
  server = await start();
});
afterAll(async () => {
  for (const child of started) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGTERM');
    await ended(child.pid as number);
  }
  await rm(folder, { recursive: true, force: true });
});

describe('answers', () => {
  test('greedy tokens and logprobs are those of the trainer’s operator', async () => {
    const answer = (await server.client.completions.create({
      model: 'tiny',
      prompt: TEXT.repeat(3),
      max_tokens: 40,
      temperature: 0,
      logprobs: 1,
    })) as Any;
    const torch = await openTorchEngine(dir, { python, threads: 1 });
    const tokenizer = await loadTokenizer(dir);
    const sequence = new Sequence(await torch.open(), new Segmenter(await readContract(dir)));
    const prompt = await tokenizer.encode(TEXT.repeat(3));
    const expected: { id: number; logprob: number }[] = [];
    const ask = { prompt, maxTokens: 40, temperature: 0, stopIds: tokenizer.eos };
    for await (const event of generate(sequence, ask, tokenizer.decoder())) {
      if (event.type === 'token') expected.push(event);
    }
    await sequence.close();
    await torch.close();
    const got = answer.choices[0].logprobs.token_logprobs as number[];
    expect(got).toHaveLength(expected.length);
    const gaps = got.map((value, i) => Math.abs(value - (expected[i]?.logprob ?? Number.NaN)));
    expect(Math.max(...gaps)).toBeLessThan(2e-4);
  });

  test('a stream is the whole answer in pieces, for a prompt and for chat', async () => {
    const ask = { model: 'tiny', prompt: TEXT, max_tokens: 30, temperature: 0.8, seed: 5 };
    const whole = await server.client.completions.create(ask);
    let text = '';
    for await (const chunk of await server.client.completions.create({ ...ask, stream: true })) {
      text += chunk.choices[0]?.text ?? '';
    }
    expect(text).toBe(whole.choices[0]?.text);
    const chat = await server.client.chat.completions.create({
      model: 'tiny',
      messages: [{ role: 'user', content: TEXT }],
      max_tokens: 30,
      temperature: 0.8,
      seed: 5,
    });
    expect(chat.choices[0]?.message.content).toBe(whole.choices[0]?.text);
    expect(chat.usage?.prompt_tokens).toBe(whole.usage?.prompt_tokens);
  });

  test('several texts, and a text held to a form', async () => {
    const several = await server.client.completions.create({
      model: 'tiny',
      prompt: TEXT,
      max_tokens: 8,
      n: 3,
      seed: 1,
    });
    expect(several.choices.map((choice) => choice.index)).toEqual([0, 1, 2]);
    const response = await server.post('/v1/completions', {
      prompt: TEXT,
      max_tokens: 200,
      temperature: 0,
      response_format: {
        type: 'json_schema',
        json_schema: { name: 'a', schema: { enum: ['left', 'right'] } },
      },
    });
    const { choices } = (await response.json()) as Any;
    expect(['left', 'right']).toContain(JSON.parse(choices[0].text));
  });

  test('the segments that the scheduler cut are those of the plan', async () => {
    const prompt = TEXT.repeat(3);
    const response = await server.post('/v1/completions', {
      prompt,
      max_tokens: 1,
      lockstep: { segments: true },
    });
    const { lockstep } = (await response.json()) as Any;
    const plan = (await (await server.post('/lockstep/plan', { text: prompt })).json()) as Any;
    expect(lockstep.segments.map(([, end]: number[]) => end)).toEqual(plan.boundaries);
  });

  test('a form that no text has is refused with its reason', async () => {
    const response = await server.post('/v1/completions', {
      prompt: TEXT,
      response_format: {
        type: 'json_schema',
        json_schema: { name: 'a', schema: { type: 'string', pattern: '(' } },
      },
    });
    const { error } = (await response.json()) as Any;
    expect([response.status, error.code], error.message).toEqual([400, 'LS_VLLM_REFUSED']);
  });

  test('the prefix that a prompt shares is not computed again', async () => {
    const prompt = `Once. ${TEXT.repeat(4)}`;
    await (await server.post('/v1/completions', { prompt, max_tokens: 1 })).json();
    const before = (await engine()).prefixCache.hits;
    await (
      await server.post('/v1/completions', { prompt: `${prompt} And.`, max_tokens: 1 })
    ).json();
    await until(async () => (await engine()).prefixCache.hits > before, 20);
  });
});

describe('what goes wrong', () => {
  test('500 clients that leave at random moments hold nothing afterwards', async () => {
    let left = 0;
    let random = 12345;
    await Promise.all(
      Array.from({ length: 500 }, async (_, i) => {
        random = (random * 1103515245 + 12345) % 2 ** 31;
        const leave = new AbortController();
        setTimeout(() => leave.abort(), (i % 100) * 30 + (random % 3000));
        try {
          const body = {
            prompt: `${i} ${TEXT}`,
            max_tokens: 900,
            ignore_eos: true,
            stream: i % 4 > 0,
          };
          const response = await server.post('/v1/completions', body, { signal: leave.signal });
          await response.text();
        } catch {
          left += 1;
        }
      }),
    );
    expect(left).toBeGreaterThan(400);
    await until(idle, 60);
    const after = await server.post('/v1/completions', { prompt: TEXT, max_tokens: 5 });
    expect(after.status).toBe(200);
  });

  test.each([
    ['its API server', /vllm\.entrypoints/],
    ['its engine process', /EngineCore/],
  ])('SIGKILL of %s under 64 streams, and it is back', async (_, name) => {
    const streams = Array.from({ length: 64 }, async (_, i) => {
      const body = { prompt: `${i}. ${TEXT}`, max_tokens: 900, ignore_eos: true, stream: true };
      const { events, done } = await eventsOf(await server.post('/v1/completions', body));
      return { events, done, at: performance.now() };
    });
    await until(async () => (await engine()).requests.running > 30, 60);
    const all = below(server.child.pid as number);
    const victim = all.find((one) => name.test(one.name) && !one.name.includes('guard.py'));
    const killed = performance.now();
    process.kill((victim as { pid: number }).pid, 'SIGKILL');
    for (const { events, done, at } of await Promise.all(streams)) {
      const finish = events.flatMap((event) => event.choices?.[0]?.finish_reason ?? []);
      if (done) expect(finish).toEqual(['length']);
      else {
        expect(finish).toEqual([]);
        expect(events.at(-1).error.code).toMatch(/^LS_VLLM_/);
      }
      expect(at - killed).toBeLessThan(5_000);
    }
    await until(async () => {
      const response = await server.post('/v1/completions', { prompt: TEXT, max_tokens: 3 });
      await response.text();
      return response.status === 200;
    }, 200);
    for (const { pid } of all) expect(isRunning(pid)).toBe(false);
  });

  test('SIGKILL of Node leaves no process', async () => {
    const all = below(server.child.pid as number);
    expect(all.some((one) => one.name.includes('EngineCore'))).toBe(true);
    server.child.kill('SIGKILL');
    await Promise.all(all.map(({ pid }) => ended(pid)));
  });

  test('SIGTERM lets a running stream end and leaves no process', async () => {
    server = await start();
    // The first pass of a fresh engine takes seconds, more than a closing server waits.
    await (await server.post('/v1/completions', { prompt: TEXT, max_tokens: 30 })).text();
    const all = below(server.child.pid as number);
    const reading = server
      .post('/v1/completions', { prompt: TEXT, max_tokens: 60, ignore_eos: true, stream: true })
      .then(eventsOf);
    await until(async () => (await engine()).sessions === 1);
    const closed = once(server.child, 'close');
    server.child.kill('SIGTERM');
    const { events, done } = await reading;
    expect(done, JSON.stringify(events.at(-1))).toBe(true);
    expect((await closed)[0]).toBe(0);
    expect(all.filter(({ pid }) => isRunning(pid))).toEqual([]);
    expect(server.stderr()).not.toContain('"level":50');
  });
});
