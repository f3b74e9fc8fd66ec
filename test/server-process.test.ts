// `lockstep serve` as its own process, in front of both real engines, on a tiny checkpoint.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import OpenAI from 'openai';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../src/paths.ts';
import { descendants, environmentOf } from './processes.ts';
import { servedCheckpoint } from './served-checkpoint.ts';
import { until } from './server-client.ts';

// biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely here
type Any = any;

const main = path.join(packageRoot, 'dist', 'cli', 'main.js');
let folder: string;
let dir: string;
const running: ChildProcess[] = [];

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-serve-'));
  dir = await servedCheckpoint(folder);
}, 240_000);

afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Started {
  child: ChildProcess;
  stderr: () => string;
  ended: Promise<number | null>;
}

function start(args: string[], env: NodeJS.ProcessEnv = {}): Started {
  const child = spawn(process.execPath, [main, 'serve', ...args], {
    env: { ...process.env, OMP_NUM_THREADS: '1', ...env },
  });
  running.push(child);
  let stderr = '';
  child.stderr?.on('data', (text) => {
    stderr += text;
  });
  const ended = once(child, 'close').then(([code]) => code as number | null);
  return { child, stderr: () => stderr, ended };
}

/** Start and wait until it says that it is ready. */
async function serve(...args: string[]): Promise<Started & { url: string; client: OpenAI }> {
  const started = start([dir, '--port', '0', '--json', '--threads', '1', ...args]);
  const lines = createInterface({ input: started.child.stdout as NodeJS.ReadableStream });
  const [line] = (await Promise.race([
    once(lines, 'line'),
    started.ended.then(() => [started.stderr()]),
  ])) as [string];
  const { url } = JSON.parse(line) as { url: string };
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
  return { ...started, url, client };
}

async function sessions(url: string): Promise<number> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  return Number(/^lockstep_sessions\{model="tiny"\} (\d+)/m.exec(metrics)?.[1]);
}

const PROMPT =
  'The rain fell in torrents. It was a dark night! And then? Then the wind came. '.repeat(3);

describe('weights of another model', () => {
  let other: string;

  beforeAll(async () => {
    other = path.join(folder, 'swapped');
    await cp(dir, other, { recursive: true });
    const file = path.join(other, 'model.safetensors');
    const bytes = await readFile(file);
    bytes.writeFloatLE(0.5, bytes.length - 4);
    await rm(file);
    await writeFile(file, bytes);
  });

  test('are refused', async () => {
    const { ended, stderr } = start([other, '--port', '0']);
    expect(await ended).toBe(1);
    expect(stderr()).toContain('LS_WEIGHTS_IDENTITY');
    expect(stderr()).toContain('model.safetensors with SHA-256');
    expect(stderr()).not.toMatch(/^\s+at /m);
  });

  test('--no-weights-check does not look, and says so', async () => {
    const { child, ended, stderr } = start([other, '--port', '0', '--json', '--no-weights-check']);
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(stderr()).toContain('weights are not checked against the checksums');
  });
});

describe.skipIf(process.platform !== 'linux')('what is started from the server', () => {
  test.each(['onnx', 'torch'])('%s: nothing gets the key, or another secret', async (engine) => {
    const secrets = { LOCKSTEP_SERVER: 'sk-123', DATABASE_URL: 'postgres://u:p@h' };
    const before = { ...process.env };
    Object.assign(process.env, secrets);
    const { url, child } = await serve('--engine', engine, '--api-key', 'LOCKSTEP_SERVER').finally(
      () => {
        for (const name of Object.keys(secrets)) delete process.env[name];
        Object.assign(process.env, before);
      },
    );
    const answer = await fetch(`${url}/v1/models`, { headers: { authorization: 'Bearer sk-123' } });
    expect(answer.status).toBe(200);
    expect((await fetch(`${url}/v1/models`)).status).toBe(401);
    const children = descendants(child.pid as number);
    expect(children.length).toBeGreaterThan(0);
    for (const pid of children) {
      const found = environmentOf(pid);
      expect(Object.keys(found).filter((name) => name in secrets)).toEqual([]);
      expect(Object.values(found).filter((value) => value.includes('sk-123'))).toEqual([]);
    }
  });
});

describe('both engines', () => {
  const answers = new Map<string, Any>();

  test.each(['onnx', 'torch'])(
    '%s: completes, streams, traces, frees what a client left',
    async (engine) => {
      const { url, client, child, ended, stderr } = await serve('--engine', engine);
      const ready = (await (await fetch(`${url}/health/ready`)).json()) as Any;
      expect(ready).toMatchObject({ status: 'ready', engine, trained: false, model: 'tiny' });
      const planOf = async (text: string): Promise<Any> => {
        const response = await fetch(`${url}/lockstep/plan`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ text }),
        });
        return response.json();
      };
      // Letters that the tokenizer does not join: the text of what is written has the same tokens.
      const { tokens: letters } = await planOf('K:?!');
      const free = { model: 'tiny', prompt: PROMPT, max_tokens: 60, temperature: 0, logprobs: 2 };
      answers.set(engine, (await client.completions.create(free)).choices[0]);
      const ask = {
        ...free,
        logit_bias: Object.fromEntries(letters.map((id: number) => [id, 100])),
        frequency_penalty: 1,
      };
      const whole = await client.completions.create(ask);
      let text = '';
      const traces: Any[] = [];
      const stream = await client.completions.create({
        ...ask,
        stream: true,
        lockstep: { trace: true },
      } as Any);
      for await (const chunk of stream as Any) {
        text += chunk.choices[0]?.text ?? '';
        if (chunk.lockstep) traces.push(chunk.lockstep);
      }
      expect(text).toBe(whole.choices[0]?.text);
      const run = traces.flatMap((trace) => trace.tokens.map((token: Any) => token.text)).join('');
      const plan = await planOf(run);
      const cuts = traces.map((trace) => trace.cut).filter((cut) => cut !== null);
      const ran = traces.flatMap((trace) => trace.tokens.map((token: Any) => token.id));
      expect(plan.tokens).toEqual(ran);
      expect(plan.boundaries).toEqual(cuts);
      expect(cuts.length).toBeGreaterThan(8);
      const last = traces.filter((trace) => trace.cut !== null).at(-1);
      expect(last.retrieved.map((one: Any) => one.layer)).toEqual([1, 2]);
      for (const { heads } of last.retrieved) {
        expect(heads).toHaveLength(1);
        const rows = heads[0].spans.reduce(
          (sum: number, [a, b]: number[]) => sum + (b as number) - (a as number),
          0,
        );
        expect(rows).toBe(8);
      }
      expect(last.memory.fullAttention).toBeGreaterThan(last.memory.carry + last.memory.pool);

      const leaving = await client.completions.create({ ...ask, max_tokens: 5000, stream: true });
      for await (const _ of leaving) break;
      leaving.controller.abort();
      await until(async () => (await sessions(url)) === 0);

      child.kill('SIGTERM');
      expect(await ended).toBe(0);
      expect(stderr()).toBe('');
    },
  );

  test.each(['onnx', 'torch'])(
    '%s: a chat’s next turn continues from the one before',
    { timeout: 240_000 },
    async (name) => {
      const { url, client } = await serve('--engine', name);
      const messages: Any[] = [{ role: 'user', content: PROMPT }];
      const cached: Any[] = [];
      for (let turn = 0; turn < 3; turn++) {
        const ask = { model: 'tiny', messages, max_tokens: 30, seed: turn };
        const answer = await client.chat.completions.create(ask);
        const { prompt_tokens: all = 0, prompt_tokens_details: details } = answer.usage ?? {};
        cached.push(details?.cached_tokens);
        // A segment of 32 tokens at most is open, and the last token always runs.
        if (turn > 0) expect(details?.cached_tokens).toBeGreaterThan(PROMPT.length / 4);
        expect(details?.cached_tokens).toBeLessThan(all);
        messages.push(answer.choices[0]?.message, { role: 'user', content: 'And then? Go on.' });
      }
      expect(cached[0]).toBe(0);
      const metrics = await (await fetch(`${url}/metrics`)).text();
      const value = (line: RegExp) => Number(line.exec(metrics)?.[1]);
      expect(value(/^lockstep_tokens_total{model="tiny",kind="cached"} (\d+)/m)).toBe(
        cached[1] + cached[2],
      );
      expect(value(/^lockstep_prefix_lookups_total{model="tiny",result="hit"} (\d+)/m)).toBe(2);
      expect(value(/^lockstep_prefix_lookups_total{model="tiny",result="miss"} (\d+)/m)).toBe(1);
      expect(value(/^lockstep_prefix_bytes\{model="tiny"\} (\d+)/m)).toBeGreaterThan(0);
      expect(value(/^lockstep_prefix_bytes_limit\{model="tiny"\} (\d+)/m)).toBe(512 * 1024 * 1024);
      const { prefix } = (await (await fetch(`${url}/lockstep/engine`)).json()) as Any;
      expect(prefix).toMatchObject({ hits: 2, misses: 1, evictions: 0 });
    },
  );

  test('--cache-bytes 0 caches nothing, and the answers are the same', async () => {
    const [on, off] = [await serve(), await serve('--cache-bytes', '0')];
    const ask = { model: 'tiny', prompt: PROMPT, max_tokens: 20, temperature: 1, seed: 4 };
    const answers: Any[] = [];
    for (const { client } of [on, on, off, off]) {
      answers.push(await client.completions.create({ ...ask, logprobs: 3 }));
    }
    const details = answers.map((answer) => answer.usage.prompt_tokens_details);
    expect(details[0]).toEqual({ cached_tokens: 0 });
    expect(details[1].cached_tokens).toBeGreaterThan(100);
    expect(details.slice(2)).toEqual([undefined, undefined]);
    for (const { choices } of answers) expect(choices).toEqual(answers[0].choices);
  });

  test('onnx and torch write the same tokens with the same probabilities', () => {
    const [onnx, torch] = [answers.get('onnx'), answers.get('torch')];
    expect(onnx.logprobs.tokens).toEqual(torch.logprobs.tokens);
    const gaps = onnx.logprobs.token_logprobs.map((value: number, i: number) =>
      Math.abs(value - torch.logprobs.token_logprobs[i]),
    );
    expect(Math.max(...gaps)).toBeLessThan(1e-4);
  });
});

describe('the process', () => {
  test('SIGTERM lets the running stream end, then leaves with 0', async () => {
    const { client, child, ended } = await serve();
    const request = { model: 'tiny', prompt: PROMPT, max_tokens: 150 };
    // A random model ends its text at random: take a seed whose answer is long.
    let seed = 0;
    while (
      (await client.completions.create({ ...request, seed })).choices[0]?.finish_reason !== 'length'
    )
      seed += 1;
    const stream = await client.completions.create({ ...request, seed, stream: true });
    let finish: string | null | undefined = null;
    let count = 0;
    for await (const chunk of stream) {
      if (++count === 3) child.kill('SIGTERM');
      finish = chunk.choices[0]?.finish_reason ?? finish;
    }
    expect(finish).toBe('length');
    expect(await ended).toBe(0);
  });

  test('32 streams at once are the answers that each gives alone', async () => {
    const { client, url } = await serve('--max-sessions', '8');
    const ask = (i: number) => ({
      model: 'tiny',
      prompt: `${i}. ${PROMPT.slice(i)}`,
      max_tokens: 12,
      temperature: 0.8,
      seed: i,
    });
    const streamed = await Promise.all(
      Array.from({ length: 32 }, async (_, i) => {
        let text = '';
        for await (const chunk of await client.completions.create({ ...ask(i), stream: true })) {
          text += chunk.choices[0]?.text ?? '';
        }
        return text;
      }),
    );
    for (let i = 0; i < 32; i += 8) {
      expect((await client.completions.create(ask(i))).choices[0]?.text).toBe(streamed[i]);
    }
    expect(await sessions(url)).toBe(0);
  });

  test('it says that the checkpoint is untrained, and where the page is', async () => {
    const { child, stderr, ended } = start([dir, '--port', '0']);
    await until(() => stderr().includes('Ctrl-C stops it'), 50);
    expect(stderr()).toContain('untrained under this contract');
    const url = /page (http:\/\/127\.0\.0\.1:\d+\/)/.exec(stderr())?.[1] as string;
    expect(await (await fetch(url)).text()).toContain('<title>Lockstep</title>');
    child.kill('SIGINT');
    expect(await ended).toBe(0);
  });

  test.each([
    [
      'an edited contract',
      'LS_CONTRACT_DIGEST',
      async (copy: string) => {
        const file = path.join(copy, 'lockstep.json');
        const contract = JSON.parse(await readFile(file, 'utf8'));
        contract.carry.size = 13;
        await writeFile(file, JSON.stringify(contract));
      },
    ],
    [
      'an edited policy',
      'LS_CONTRACT_POLICY',
      async (copy: string) => {
        const file = path.join(copy, 'policy.js');
        await writeFile(file, `${await readFile(file, 'utf8')}\n`);
      },
    ],
    ['no contract', 'LS_CONTRACT_MISSING', (copy: string) => rm(path.join(copy, 'lockstep.json'))],
    [
      'no graph',
      'LS_ENGINE_EXPORT',
      (copy: string) => rm(path.join(copy, 'onnx'), { recursive: true }),
    ],
  ])('it never starts on %s', async (_, code, harm) => {
    const copy = path.join(folder, `copy-${code}`);
    await cp(dir, copy, { recursive: true });
    await harm(copy);
    const { ended, stderr } = start([copy, '--port', '0']);
    expect(await ended).toBe(1);
    expect(stderr()).toContain(code);
    expect(stderr()).toContain('fix:');
    expect(stderr()).not.toContain('    at ');
  });

  test('a port in use, a missing key and a wrong precision are said before a model is loaded', async () => {
    const holder = net.createServer().listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const { port } = holder.address() as net.AddressInfo;
    const taken = start([dir, '--port', String(port)]);
    expect(await taken.ended).toBe(1);
    expect(taken.stderr()).toContain('LS_SERVE_PORT');
    expect(taken.stderr()).not.toContain('opening');
    holder.close();
    const keyless = start([dir, '--port', '0', '--api-key', 'NO_SUCH_KEY']);
    expect(await keyless.ended).toBe(1);
    expect(keyless.stderr()).toContain('LS_SERVE_KEY');
    const wrong = start([dir, '--port', '0', '--precision', 'float64']);
    expect(await wrong.ended).toBe(2);
    expect(wrong.stderr()).toContain('fp32, int8 or int4');
    const idle = start([dir, '--port', '0', '--engine', 'vllm', '--cache-bytes', '5']);
    expect(await idle.ended).toBe(2);
    expect(idle.stderr()).toContain('expected no --cache-bytes with --engine vllm');
  });
});
