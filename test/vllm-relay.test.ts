// Answers through the relay in front of vLLM's protocol, over real sockets.
import { describe, expect, test, vi } from 'vitest';
import { plan, Segmenter } from '../src/planner/index.ts';
import { type OpenFamily, readOpenMetrics } from './openmetrics.ts';
import { type Any, eventsOf, PROMPT, until } from './server-client.ts';
import { fakeVllms, foreseen } from './vllm-fixture.ts';

const vllm = fakeVllms();
const { served } = vllm;

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
    expect(bodies[0].stop_token_ids).toEqual(vllm.toy.files.contract.tokenizer.ends);
    expect(bodies[0].ignore_eos).toBe(true);
  });

  test.each([1, 3])(
    'a run of %i texts that is closed before it begins leaves nothing in vLLM',
    async (n) => {
      const { engine, fake } = await served(['--delay', '0.01']);
      const { signal } = new AbortController();
      const asked = { prompt: [...Buffer.from(PROMPT)], maxTokens: 4000, temperature: 0, stop: [] };
      const told = { logprobs: null, traced: false, streamed: true, extra: { n } };
      const run = await engine.relay.run({ ...asked, ...told }, signal);
      expect(engine.relay.sessions).toBe(1);
      await run.close();
      await run.close();
      expect(engine.relay.sessions).toBe(0);
      await until(async () => (await fake.seen()).running === 0);
      expect(await run.events.next()).toEqual({ done: true, value: undefined });
    },
  );

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
    expect(bodies[0].prompt).toEqual(Array.from(await vllm.toy.tokenizer.encode(text)));
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
      // Long enough that vLLM is not done before it is told.
      max_tokens: 4000,
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

  test('each text is a stream of its own, with the seed that vLLM would give it', async () => {
    const { post, fake } = await served();
    const ask = { prompt: PROMPT, max_tokens: 3, n: 3, seed: 7 };
    const answer = (await (await post('/v1/completions', ask)).json()) as Any;
    expect(answer.usage).toMatchObject({ prompt_tokens: PROMPT.length, completion_tokens: 9 });
    const { bodies } = await fake.seen();
    expect(bodies.map(({ n, seed }: Any) => [n, seed]).sort()).toEqual([
      [1, 7],
      [1, 8],
      [1, 9],
    ]);
  });

  test('a long prompt is planned in pieces, and once for all of its texts', async () => {
    const { post } = await served();
    const sizes: number[] = [];
    const { pushMany } = Segmenter.prototype;
    const spy = vi.spyOn(Segmenter.prototype, 'pushMany').mockImplementation(function (
      this: Segmenter,
      tokens,
    ) {
      sizes.push(tokens.length);
      return pushMany.call(this, tokens);
    });
    const prompt = PROMPT.repeat(50).slice(0, 3000);
    const answer = (await (
      await post('/v1/completions', { prompt, max_tokens: 20, n: 4, temperature: 0 })
    ).json()) as Any;
    spy.mockRestore();
    expect(answer.choices.map((choice: Any) => choice.text)).toEqual(
      Array.from({ length: 4 }, () => foreseen(prompt, 20)),
    );
    expect(sizes).toEqual([2048, 952]);
  });

  test('the texts of a prompt are cut where each would be cut alone', async () => {
    const { post, url } = await served();
    const ask = { prompt: PROMPT.repeat(3), max_tokens: 80, temperature: 0 };
    const all = [...Buffer.from(ask.prompt + foreseen(ask.prompt, 79))];
    const cuts = plan(vllm.toy.files, all);
    const before = cuts.filter((cut) => cut <= ask.prompt.length).length;
    expect(cuts.length).toBeGreaterThan(before);
    await (await post('/v1/completions', { ...ask, n: 3 })).text();
    const metrics = await (await fetch(`${url}/metrics`)).text();
    const closed = /^lockstep_segments_closed_total\{model="toy"\} (\d+)/m.exec(metrics)?.[1];
    expect(Number(closed)).toBe(before + 3 * (cuts.length - before));
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

  test('sources are said to be unknown: vLLM does not tell what it retrieves', async () => {
    const { post } = await served();
    const ask = { prompt: PROMPT.repeat(3), max_tokens: 9, lockstep: { sources: true } };
    const whole = (await (await post('/v1/completions', ask)).json()) as Any;
    expect(whole.lockstep).toEqual({ sources: null });
    const { events } = await eventsOf(await post('/v1/completions', { ...ask, stream: true }));
    expect(events.map((event) => event.lockstep).filter(Boolean)).toEqual([{ sources: null }]);
    const two = await post('/v1/completions', { ...ask, n: 2 });
    expect(((await two.json()) as Any).error.param).toBe('lockstep.sources');
  });

  test('a prompt that comes back has the scores that vLLM gave it', async () => {
    const { client, fake } = await served();
    const ask = { model: 'toy', max_tokens: 0, echo: true, logprobs: 2 };
    const { choices, usage } = await client.completions.create({ ...ask, prompt: ['abc', 'de'] });
    expect(choices.map(({ index, text }) => [index, text])).toEqual([
      [0, 'abc'],
      [1, 'de'],
    ]);
    expect(choices[0]?.logprobs).toEqual({
      tokens: ['a', 'b', 'c'],
      token_logprobs: [null, -1, -1],
      top_logprobs: [null, { b: -1, c: -2 }, { c: -1, d: -2 }],
      text_offset: [0, 1, 2],
    });
    expect(usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 0 });
    const { bodies } = await fake.seen();
    expect(bodies[0]).toMatchObject({ stream: false, prompt_logprobs: 2, max_tokens: 1 });
  });

  test('beside vLLM’s metrics, OpenMetrics has our exemplars, and one end', async () => {
    const { url, post } = await served();
    await (await post('/v1/completions', { prompt: PROMPT, max_tokens: 5 })).text();
    const headers = { accept: 'application/openmetrics-text; version=1.0.0' };
    const asked = await fetch(`${url}/metrics`, { headers });
    expect(asked.headers.get('content-type')).toContain('application/openmetrics-text');
    const families = readOpenMetrics(await asked.text());
    expect(families.get('vllm:num_preemptions')).toEqual({
      type: 'counter',
      samples: ['vllm:num_preemptions_total{replica="0",engine="0",model="toy"} 3'],
    });
    expect(families.get('lockstep_vllm_kv_bytes')?.samples).toHaveLength(1);
    for (const name of ['queue', 'time_to_first_token', 'decode', 'inter_token', 'http_request']) {
      const { type, samples } = families.get(`lockstep_${name}_seconds`) as OpenFamily;
      expect([type, samples.join('\n')]).toEqual([
        'histogram',
        expect.stringMatching(/_bucket\{.*\} \d+ # \{request_id="[^"]+"\} /),
      ]);
    }
  });

  test('vLLM’s metrics stand in /metrics and /lockstep/engine', async () => {
    const { url } = await served();
    const metrics = await (await fetch(`${url}/metrics`)).text();
    expect(metrics).toContain('# TYPE vllm:num_preemptions_total counter');
    expect(metrics).toContain('vllm:num_preemptions_total{replica="0",engine="0",model="toy"} 3');
    expect(metrics).toContain(
      'lockstep_vllm_kv_blocks{replica="0",engine="0",group="local",model="toy"} 7',
    );
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
