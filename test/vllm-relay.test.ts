// The relay in front of vLLM's protocol over real sockets: answers, faults, leaving, refusals.
import { rm } from 'node:fs/promises';
import net from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Any, eventsOf, PROMPT, until } from './server-client.ts';
import { makeToy, type Toy } from './server-toy.ts';
import { Opened } from './vllm-upstream.ts';

let toy: Toy;
let opened: Opened;

beforeAll(async () => {
  toy = await makeToy();
  opened = new Opened(toy);
});
afterEach(() => opened.close());
afterAll(() => rm(toy.dir, { recursive: true, force: true }));

async function ready(url: string): Promise<boolean> {
  return (await fetch(`${url}/health/ready`)).status === 200;
}

/** One fake and a server that has believed it. */
async function served(
  args: string[] = [],
  options: Parameters<Opened['relay']>[1] = {},
  upstream: Parameters<Opened['relay']>[2] = {},
) {
  const fake = await opened.fake(...args);
  const server = await opened.relay([fake.url], options, upstream);
  await until(() => ready(server.url));
  return { fake, ...server };
}

/** What the fake generates after a prompt. */
function foreseen(prompt: string, count: number): string {
  let last = prompt.charCodeAt(prompt.length - 1);
  let text = '';
  for (let position = prompt.length; text.length < count; position++) {
    const letter = (last * 7 + position * 3) % 27;
    last = position % 11 === 0 ? 46 : letter === 26 ? 32 : 97 + letter;
    text += String.fromCharCode(last);
  }
  return text;
}

describe('answers', () => {
  test('a completion, whole and streamed, is what vLLM generated, sent as token ids', async () => {
    const { client, fake } = await served();
    const ask = { model: 'toy', prompt: PROMPT, max_tokens: 60, temperature: 0, seed: 5 };
    const whole = await client.completions.create(ask);
    expect(whole.choices[0]).toMatchObject({
      text: foreseen(PROMPT, 60),
      finish_reason: 'length',
    });
    expect(whole.usage).toMatchObject({ prompt_tokens: PROMPT.length, completion_tokens: 60 });
    const seen: Any[] = [];
    const stream = await client.completions.create({
      ...ask,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) seen.push(chunk);
    expect(seen.map((chunk) => chunk.choices[0]?.text ?? '').join('')).toBe(foreseen(PROMPT, 60));
    expect(seen.at(-2).choices[0].finish_reason).toBe('length');
    expect(seen.at(-1).usage).toEqual(whole.usage);
    const { bodies } = await fake.seen();
    expect(bodies[0].prompt).toEqual([...Buffer.from(PROMPT)]);
    expect(bodies[0]).toMatchObject({ seed: 5, temperature: 0, stream: true, top_k: 0 });
    expect(bodies[0].stop_token_ids).toEqual(toy.tokenizer.eos);
  });

  test('chat goes through the template in Node', async () => {
    const { client, fake } = await served();
    await fake.fault({ kind: 'none', eos_at: 30 });
    const messages = [{ role: 'user' as const, content: 'Tell me of the sea.' }];
    const answer = await client.chat.completions.create({
      model: 'toy',
      messages,
      logprobs: true,
      top_logprobs: 2,
      max_completion_tokens: 50,
    });
    const text = '<|user|>Tell me of the sea.<|end|><|assistant|>';
    const { bodies } = await fake.seen();
    expect(bodies[0].prompt).toEqual(Array.from(await toy.tokenizer.encode(text)));
    expect(answer.choices[0]?.finish_reason).toBe('stop');
    const content = answer.choices[0]?.logprobs?.content ?? [];
    expect(content).toHaveLength(31);
    expect(content[0]?.logprob).toBe(-0.5);
    expect(content[0]?.top_logprobs.map((one) => one.logprob)).toEqual([-0.5, -1.5]);
    expect(
      content
        .slice(0, -1)
        .map((one) => one.token)
        .join(''),
    ).toBe(answer.choices[0]?.message.content);
  });

  test('a stop string ends the text in Node, and the request in vLLM', async () => {
    const { client, fake } = await served(['--delay', '0.002']);
    const all = foreseen(PROMPT, 400);
    const stop = all.slice(20, 25);
    const whole = await client.completions.create({
      model: 'toy',
      prompt: PROMPT,
      max_tokens: 400,
      stop,
    });
    expect(whole.choices[0]).toMatchObject({
      text: all.slice(0, all.indexOf(stop)),
      finish_reason: 'stop',
    });
    await until(async () => (await fake.seen()).running === 0);
    expect((await fake.seen()).aborted).toBe(1);
  });

  test('n texts, each with its own index, whole and streamed', async () => {
    const { client } = await served();
    const ask = { model: 'toy', prompt: PROMPT, max_tokens: 20, n: 3, logprobs: 1 };
    const whole = await client.completions.create(ask);
    expect(whole.choices.map((choice) => [choice.index, choice.text])).toEqual(
      [0, 1, 2].map((i) => [i, foreseen(PROMPT, 20)]),
    );
    expect(whole.usage?.completion_tokens).toBe(60);
    const texts = ['', '', ''];
    const finished: number[] = [];
    for await (const chunk of await client.completions.create({ ...ask, stream: true })) {
      for (const choice of chunk.choices) {
        texts[choice.index] += choice.text;
        if (choice.finish_reason !== null) finished.push(choice.index);
      }
    }
    expect(texts).toEqual([0, 1, 2].map(() => foreseen(PROMPT, 20)));
    expect(finished.sort()).toEqual([0, 1, 2]);
  });

  test('parameters that only vLLM takes reach it', async () => {
    const { post, fake } = await served();
    const format = { type: 'json_schema', json_schema: { name: 'a', schema: { type: 'object' } } };
    const extra = { top_k: 5, min_p: 0.1, repetition_penalty: 1.1, min_tokens: 2 };
    const response = await post('/v1/completions', {
      prompt: PROMPT,
      max_tokens: 3,
      response_format: format,
      presence_penalty: 0.5,
      logit_bias: { '5': -10 },
      ...extra,
    });
    expect(response.status).toBe(200);
    const { bodies } = await fake.seen();
    expect(bodies[0]).toMatchObject({
      ...extra,
      response_format: format,
      presence_penalty: 0.5,
      logit_bias: { '5': -10 },
    });
  });

  test('a traced stream tells the cuts of the plan', async () => {
    const { post } = await served();
    const prompt = PROMPT.repeat(3);
    const { events, done } = await eventsOf(
      await post('/v1/completions', {
        prompt,
        max_tokens: 80,
        stream: true,
        lockstep: { trace: true },
      }),
    );
    expect(done).toBe(true);
    const traces = events.map((event) => event.lockstep).filter(Boolean);
    const text = traces.flatMap((trace) => trace.tokens.map((token: Any) => token.text)).join('');
    const plan = (await (await post('/lockstep/plan', { text })).json()) as Any;
    expect(traces.flatMap((trace) => trace.cut ?? [])).toEqual(plan.boundaries);
    expect(plan.boundaries.length).toBeGreaterThan(3);
    expect(traces.every((trace) => trace.memory === null && trace.retrieved === null)).toBe(true);
  });

  test('the segments that vLLM’s scheduler cut come with a whole answer', async () => {
    const { post } = await served();
    const ask = { prompt: PROMPT, max_tokens: 9, lockstep: { segments: true } };
    const answer = (await (await post('/v1/completions', ask)).json()) as Any;
    expect(answer.choices[0].text).toBe(foreseen(PROMPT, 9));
    const open = [9, PROMPT.length + 9];
    expect(answer.lockstep).toEqual({
      segments: [
        [0, 7],
        [7, 9],
      ],
      open,
    });
    const streamed = await post('/v1/completions', { ...ask, stream: true });
    expect(((await streamed.json()) as Any).error.param).toBe('lockstep.segments');
  });

  test('vLLM’s figures stand in /metrics and /lockstep/engine', async () => {
    const { url } = await served();
    const metrics = await (await fetch(`${url}/metrics`)).text();
    expect(metrics).toContain('# TYPE vllm:num_preemptions_total counter');
    expect(metrics).toContain('vllm:num_preemptions_total{replica="0",engine="0"} 3');
    expect(metrics).toContain('lockstep_vllm_kv_blocks{replica="0",engine="0",group="local"} 7');
    expect(metrics).toContain('lockstep_info{');
    expect(metrics).not.toContain('python_info');
    const engine = (await (await fetch(`${url}/lockstep/engine`)).json()) as Any;
    expect(engine).toMatchObject({
      name: 'vllm',
      kv: { groups: [{ group: 'local', blocks: 7 }], bytes: 700, bytesFull: 2100 },
      prefixCache: { queries: 40, hits: 30 },
      preemptions: 3,
      replicas: [{ ready: true, running: 0 }],
    });
  });

  test('an upstream key is shown to vLLM', async () => {
    const { client, fake } = await served([], {}, { key: 's3cret' });
    await client.completions.create({ model: 'toy', prompt: 'a', max_tokens: 1 });
    expect((await fake.seen()).keys).toContain('Bearer s3cret');
  });
});

describe('faults in the middle of an answer', () => {
  const faults: [name: string, fault: object, code: string][] = [
    ['the connection drops', { kind: 'drop-in-stream' }, 'LS_VLLM_DIED'],
    ['the stream ends early', { kind: 'early-end' }, 'LS_VLLM_DIED'],
    ['[DONE] comes early', { kind: 'early-done' }, 'LS_VLLM_DIED'],
    ['vLLM reports an error', { kind: 'error-event' }, 'LS_VLLM_FAILED'],
    ['vLLM aborts the request', { kind: 'abort-reason' }, 'LS_VLLM_DIED'],
    ['bytes that are not UTF-8', { kind: 'bytes', hex: 'fffe0a0a' }, 'LS_VLLM_PROTOCOL'],
    ['an event that is no JSON', { kind: 'bytes', hex: hex('data: {"a\n\n') }, 'LS_VLLM_PROTOCOL'],
    ['an event without choices', { kind: 'bytes', hex: hex('data: {}\n\n') }, 'LS_VLLM_PROTOCOL'],
    ['text that is no event', { kind: 'bytes', hex: hex('hello\n\n') }, 'LS_VLLM_PROTOCOL'],
    [
      'a token outside the vocabulary',
      { kind: 'bytes', hex: hex('data: {"choices":[{"index":0,"token_ids":[260]}]}\n\n') },
      'LS_VLLM_PROTOCOL',
    ],
    [
      'a choice that nobody asked for',
      { kind: 'bytes', hex: hex('data: {"choices":[{"index":1,"token_ids":[5]}]}\n\n') },
      'LS_VLLM_PROTOCOL',
    ],
    ['40 MB without an event', { kind: 'huge' }, 'LS_VLLM_PROTOCOL'],
    ['nothing comes', { kind: 'stall', seconds: 3 }, 'LS_VLLM_STALLED'],
    ['vLLM is killed', { kind: 'die' }, 'LS_VLLM_DIED'],
  ];

  test.each(faults)('%s: an error event or status, never a false end', async (_, fault, code) => {
    const { post, fake } = await served([], {}, { stallMs: 500 });
    const ask = { prompt: PROMPT, max_tokens: 30 };
    if ((fault as Any).kind !== 'die') {
      await fake.fault({ ...fault, after: 10, times: 2 });
      const whole = await post('/v1/completions', ask);
      expect([whole.status >= 500, ((await whole.json()) as Any).error.code]).toEqual([true, code]);
    }
    await fake.fault({ ...fault, after: 10, times: 2 });
    const response = await post('/v1/completions', { ...ask, stream: true });
    const { events, done } = await eventsOf(response);
    expect(done).toBe(false);
    expect(events.at(-1).error.code).toBe(code);
    expect(events.slice(0, -1).map((event) => event.choices[0].finish_reason)).toEqual(
      Array(events.length - 1).fill(null),
    );
    // What had come is passed on, unless it stood in one packet with the fault.
    const text = events.map((event) => event.choices?.[0].text ?? '').join('');
    expect(foreseen(PROMPT, 10).startsWith(text)).toBe(true);
  });

  test('a comment of vLLM’s own is no fault', async () => {
    const { post, fake } = await served();
    await fake.fault({ kind: 'bytes', hex: hex(': keep-alive\n\n'), after: 3 });
    const answer = await (await post('/v1/completions', { prompt: PROMPT, max_tokens: 9 })).json();
    expect((answer as Any).choices[0].text).toBe(foreseen(PROMPT, 9));
  });

  test('killed under 64 streams: each ends with an error or is complete, none falsely', async () => {
    const { post, fake } = await served(['--delay', '0.01']);
    const asked = Array.from({ length: 64 }, async (_, i) => {
      const prompt = `${i}: ${PROMPT}`;
      const max_tokens = 5 + (i % 40);
      const response = await post('/v1/completions', { prompt, max_tokens, stream: true });
      if (response.status !== 200) {
        const { error } = (await response.json()) as Any;
        return { prompt, max_tokens, events: [{ error }], done: false };
      }
      return { prompt, max_tokens, ...(await eventsOf(response)) };
    });
    await until(async () => (await fake.seen()).completed >= 3);
    fake.child.kill('SIGKILL');
    let complete = 0;
    let errors = 0;
    for (const { prompt, max_tokens, events, done } of await Promise.all(asked)) {
      const text = events.map((event) => event.choices?.[0]?.text ?? '').join('');
      const finish = events.flatMap((event) => event.choices?.[0]?.finish_reason ?? []);
      if (done) {
        complete += 1;
        expect([text, finish]).toEqual([foreseen(prompt, max_tokens), ['length']]);
      } else {
        errors += 1;
        expect(events.at(-1).error.code).toMatch(/^LS_VLLM_(DIED|UNREACHABLE|NOT_READY)$/);
        expect(finish).toEqual([]);
      }
    }
    expect(complete).toBeGreaterThanOrEqual(3);
    expect(errors).toBeGreaterThan(10);
    expect(complete + errors).toBe(64);
  });
});

describe('before the first byte', () => {
  test('a dropped connection is tried once more', async () => {
    const { post, fake } = await served();
    await fake.fault({ kind: 'drop' });
    const response = await post('/v1/completions', { prompt: PROMPT, max_tokens: 9 });
    expect(((await response.json()) as Any).choices[0].text).toBe(foreseen(PROMPT, 9));
    expect((await fake.seen()).paths['/v1/completions']).toBe(2);
  });

  test.each([
    [
      400,
      { error: { message: 'schema too deep', param: 'response_format' } },
      400,
      'LS_VLLM_REFUSED',
    ],
    [500, { error: { message: 'boom' } }, 502, 'LS_VLLM_FAILED'],
    [403, { detail: 'no' }, 502, 'LS_VLLM_FAILED'],
  ])('vLLM’s %i is told with its reason', async (status, body, mine, code) => {
    const { post, fake } = await served();
    await fake.fault({ kind: 'status', status, body: JSON.stringify(body) });
    const response = await post('/v1/completions', { prompt: 'a', stream: true, max_tokens: 3 });
    const text = await response.text();
    expect(text).toContain(code);
    expect(text).not.toContain('[DONE]');
    await fake.fault({ kind: 'status', status, body: JSON.stringify(body) });
    const whole = await post('/v1/completions', { prompt: 'a', max_tokens: 3 });
    expect([whole.status, ((await whole.json()) as Any).error.code]).toEqual([mine, code]);
  });

  test('an answer that is no HTTP', async () => {
    const { post, fake } = await served();
    await fake.fault({ kind: 'no-http', times: 5 });
    const response = await post('/v1/completions', { prompt: 'a', max_tokens: 3 });
    expect([response.status, ((await response.json()) as Any).error.code]).toEqual([
      502,
      'LS_VLLM_PROTOCOL',
    ]);
  });
});

describe('clients that leave', () => {
  test('200 aborts at different moments end 200 requests in vLLM', async () => {
    const { post, fake, engine } = await served(['--delay', '0.005', '--max-len', '32000']);
    let left = 0;
    await Promise.all(
      Array.from({ length: 200 }, async (_, i) => {
        const leave = new AbortController();
        const stream = i % 3 > 0;
        const body = { prompt: `${i} ${PROMPT}`, max_tokens: 20_000, stream };
        if (!stream) setTimeout(() => leave.abort(), 10 * (i % 40));
        try {
          const response = await post('/v1/completions', body, { signal: leave.signal });
          let chunks = 0;
          for await (const _ of response.body as unknown as AsyncIterable<Uint8Array>) {
            if (++chunks > i % 20) leave.abort();
          }
        } catch {
          left += 1;
        }
      }),
    );
    expect(left).toBe(200);
    await until(() => engine.relay.sessions === 0);
    // Those that left early enough were never sent.
    await until(async () => {
      const { begun, aborted, completed, running } = await fake.seen();
      expect(completed).toBe(0);
      return running === 0 && aborted > 130 && aborted === begun;
    }, 20);
    const after = await post('/v1/completions', { prompt: PROMPT, max_tokens: 5 });
    expect(((await after.json()) as Any).choices[0].text).toBe(foreseen(PROMPT, 5));
  });

  test('a reader that stops reading stops vLLM too, and is given up', async () => {
    const { port, engine, fake } = await served(['--max-len', '4000000'], {
      stallMs: 300,
      maxTokens: 4_000_000,
    });
    const body = JSON.stringify({
      prompt: PROMPT,
      max_tokens: 2_000_000,
      stream: true,
      logprobs: 9,
    });
    const socket = net.connect(port, '127.0.0.1');
    socket.write(
      `POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    socket.pause();
    await until(() => engine.relay.sessions === 1);
    await until(() => engine.relay.sessions === 0, 30);
    await until(async () => (await fake.seen()).running === 0);
    expect((await fake.seen()).aborted).toBe(1);
    socket.destroy();
  });
});

describe('what never reaches vLLM', () => {
  test.each([
    [
      'a prompt over the limit',
      { prompt: 'a'.repeat(5000) },
      400,
      'prompt',
      'context_length_exceeded',
    ],
    [
      'too many tokens',
      { prompt: 'a', max_tokens: 5000 },
      400,
      'max_tokens',
      'context_length_exceeded',
    ],
    ['an unknown model', { prompt: 'a', model: 'x' }, 404, 'model', 'model_not_found'],
    ['ids out of the vocabulary', { prompt: [1, 260] }, 400, 'prompt[1]', 'invalid_value'],
    [
      '10,000 stop strings',
      { prompt: 'a', stop: Array(10_000).fill('x') },
      400,
      'stop',
      'invalid_value',
    ],
    ['too many texts', { prompt: 'a', n: 1000 }, 400, 'n', 'invalid_value'],
    [
      'a bias outside of it',
      { prompt: 'a', logit_bias: { 999: 1 } },
      400,
      'logit_bias',
      'invalid_value',
    ],
    [
      'vLLM’s own switches',
      { prompt: 'a', kv_transfer_params: {} },
      400,
      'kv_transfer_params',
      'unknown_parameter',
    ],
    [
      'a form of no kind',
      { prompt: 'a', response_format: { type: 'xml' } },
      400,
      'response_format.type',
      'invalid_value',
    ],
    [
      'n traced',
      { prompt: 'a', n: 2, stream: true, lockstep: { trace: true } },
      400,
      'lockstep.trace',
      'invalid_value',
    ],
  ])('%s', async (_, body, status, param, code) => {
    const { post, fake } = await served();
    const response = await post('/v1/completions', body);
    const { error } = (await response.json()) as Any;
    expect([response.status, error.param, error.code], error.message).toEqual([
      status,
      param,
      code,
    ]);
    expect((await fake.seen()).paths['/v1/completions']).toBeUndefined();
  });

  test('a body of 200 MB', async () => {
    const { port, fake } = await served();
    const socket = net.connect(port, '127.0.0.1');
    const size = 200 * 1024 * 1024;
    socket.write(
      `POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${size}\r\n\r\n{"prompt":"`,
    );
    const chunk = Buffer.alloc(1 << 20, 97);
    let answer = '';
    socket.on('data', (data) => {
      answer += data;
    });
    socket.on('error', () => {});
    for (let i = 0; i < 200 && !answer.includes('\r\n\r\n'); i++) {
      if (!socket.write(chunk)) {
        await Promise.race([
          new Promise((resolve) => socket.once('drain', resolve)),
          new Promise((resolve) => socket.once('close', resolve)),
          new Promise((resolve) => socket.once('data', resolve)),
        ]);
      }
    }
    await until(() => answer.includes('body_too_large'));
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    socket.destroy();
    expect((await fake.seen()).paths['/v1/completions']).toBeUndefined();
  });

  test('routes that change a running vLLM are not there', async () => {
    const { url, post, fake } = await served();
    const before = Object.keys((await fake.seen()).paths);
    for (const path of [
      '/pause',
      '/resume',
      '/update_weights',
      '/invocations',
      '/collective_rpc',
      '/sleep',
      '/reset_prefix_cache',
      '/v1/load_lora_adapter',
      '/inference/v1/generate',
      '/v1/responses',
      '/v1/embeddings',
      '//pause',
      '/v1/../pause',
      '/%70ause',
    ]) {
      expect((await post(path, {})).status, path).toBe(404);
      expect((await fetch(`${url}${path}`)).status, path).toBe(404);
    }
    const after = Object.keys((await fake.seen()).paths);
    expect(after.filter((path) => !before.includes(path) && path !== '/seen')).toEqual([]);
  });
});

function hex(text: string): string {
  return Buffer.from(text).toString('hex');
}
