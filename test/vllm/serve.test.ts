// `lockstep serve --engine vllm` with the real vLLM: answers, aborts, kills, and that nothing is left.
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { readContract } from '../../src/checkpoint/index.ts';
import { generate } from '../../src/engines/generate.ts';
import { Sequence } from '../../src/engines/sequence.ts';
import { openTorchEngine } from '../../src/engines/torch.ts';
import { Segmenter } from '../../src/planner/index.ts';
import { loadTokenizer } from '../../src/tokenizer/tokenizer.ts';
import { ended, isRunning, listening } from '../processes.ts';
import { type Any, eventsOf, until } from '../server-client.ts';
import { below, type Serving, servers, TEXT } from './serving.ts';

const vllm = servers();
let server: Serving;

/** Whether vLLM runs nothing and holds no KV block for anyone. */
async function idle(): Promise<boolean> {
  const { requests, kv, sessions } = await server.engine();
  const blocks = kv.groups.map((group: Any) => group.blocks);
  return (
    sessions === 0 && requests.running === 0 && requests.waiting === 0 && !blocks.some(Boolean)
  );
}

beforeAll(async () => {
  server = await vllm.start();
});

describe('vLLM’s own interface', () => {
  test('is on a socket that no other user can reach, and on no port', async () => {
    const { replicas } = await server.engine();
    const socket = replicas[0].url.replace('unix:', '') as string;
    expect((await stat(socket)).isSocket()).toBe(true);
    expect((await stat(path.dirname(socket))).mode & 0o777).toBe(0o700);
    const processes = below(server.child.pid as number);
    const ports = listening(processes.map(({ pid }) => pid));
    // What its processes talk over among themselves is no HTTP.
    for (const port of ports) {
      const answer = await fetch(`http://127.0.0.1:${port}/metrics`, {
        signal: AbortSignal.timeout(2_000),
      }).catch(() => null);
      expect(answer).toBeNull();
    }
  });
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
    const { dir, python } = vllm;
    const torch = await openTorchEngine(dir, { python, threads: 1 });
    const tokenizer = await loadTokenizer(dir);
    const sequence = new Sequence(await torch.open(), new Segmenter(await readContract(dir)));
    const prompt = await tokenizer.encode(TEXT.repeat(3));
    const expected: { id: number; logprob: number }[] = [];
    const ask = { prompt, maxTokens: 40, temperature: 0, stopIds: tokenizer.ends };
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
    const before = (await server.engine()).prefixCache.hits;
    await (
      await server.post('/v1/completions', { prompt: `${prompt} And.`, max_tokens: 1 })
    ).json();
    await until(async () => (await server.engine()).prefixCache.hits > before, 20);
  });
});

describe('what goes wrong', () => {
  test('500 clients that leave at random moments hold nothing afterwards', async () => {
    let left = 0;
    const statuses = new Set<number>();
    let refused = 0;
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
          statuses.add(response.status);
          if (response.status !== 200) refused += 1;
        } catch {
          left += 1;
        }
      }),
    );
    // A fast server has more of them at once than it has slots and room in its queue.
    console.info(`${left} left, ${refused} refused (${[...statuses]})`);
    expect(left + refused).toBeGreaterThan(400);
    expect(left).toBeGreaterThan(200);
    for (const status of statuses) expect([200, 429, 503]).toContain(status);
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
    await until(async () => (await server.engine()).requests.running > 30, 60);
    // Node renders chat templates in processes of its own, which vLLM's end does not concern.
    const all = below(server.child.pid as number).filter(
      (one) => !one.name.includes('template-process'),
    );
    const victim = all.find((one) => name.test(one.name) && !one.name.includes('guard.py'));
    process.kill((victim as { pid: number }).pid, 'SIGKILL');
    const killed = performance.now();
    const ends = await Promise.all(streams);
    for (const { events, done } of ends) {
      const finish = events.flatMap((event) => event.choices?.[0]?.finish_reason ?? []);
      if (done) expect(finish).toEqual(['length']);
      else {
        expect(finish).toEqual([]);
        expect(events.at(-1).error.code).toMatch(/^LS_VLLM_/);
      }
    }
    const whole = ends.filter(({ done }) => done).length;
    const last = Math.max(...ends.map(({ at }) => at - killed)).toFixed(0);
    console.info(`${whole} whole answers, ${64 - whole} error events, the last after ${last} ms`);
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
    server = await vllm.start();
    // The first pass of a fresh engine takes seconds, more than a closing server waits.
    await (await server.post('/v1/completions', { prompt: TEXT, max_tokens: 30 })).text();
    const all = below(server.child.pid as number);
    const reading = server
      .post('/v1/completions', { prompt: TEXT, max_tokens: 400, ignore_eos: true, stream: true })
      .then(eventsOf);
    await until(async () => (await server.engine()).sessions === 1);
    const closed = once(server.child, 'close');
    server.child.kill('SIGTERM');
    const { events, done } = await reading;
    expect(done, JSON.stringify(events.at(-1))).toBe(true);
    expect((await closed)[0]).toBe(0);
    expect(all.filter(({ pid }) => isRunning(pid))).toEqual([]);
    expect(server.stderr()).not.toContain('"level":50');
  });
});
