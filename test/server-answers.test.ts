// What the HTTP interface answers: completions, chat, traces, plans.
import OpenAI from 'openai';
import { describe, expect, test } from 'vitest';
import { createServer } from '../src/server/index.ts';
import type { Tokenizer } from '../src/tokenizer/tokenizer.ts';
import { type Any, eventsOf, PROMPT } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { ToyEngine } from './server-toy.ts';

const servers = toyServers();
const { serve } = servers;

describe('completions', () => {
  test('the openai client gets the same text whole and streamed', async () => {
    const { client, engine } = await serve();
    const ask = { model: 'toy', prompt: PROMPT, max_tokens: 100, temperature: 0 };
    const whole = await client.completions.create(ask);
    let text = '';
    let usage: Any = null;
    let finish: Any = null;
    const stream = await client.completions.create({
      ...ask,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? '';
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    expect(text).toBe(whole.choices[0]?.text);
    expect(text).toHaveLength(100);
    expect(finish).toBe('length');
    expect(usage).toEqual(whole.usage);
    expect(usage).toEqual({
      prompt_tokens: PROMPT.length,
      completion_tokens: 100,
      total_tokens: PROMPT.length + 100,
    });
    expect(whole.object).toBe('text_completion');
    expect(engine.sessions).toBe(0);
  });

  test('token ids give what their text gives', async () => {
    const { client, post } = await serve();
    const { tokens } = (await (await post('/tokenize', { text: PROMPT })).json()) as Any;
    const ask = { model: 'toy', max_tokens: 20, temperature: 0 };
    const text = await client.completions.create({ ...ask, prompt: PROMPT });
    const ids = await client.completions.create({ ...ask, prompt: tokens });
    const listed = await client.completions.create({ ...ask, prompt: [tokens] as Any });
    expect(ids.choices[0]?.text).toBe(text.choices[0]?.text);
    expect(listed.choices[0]?.text).toBe(text.choices[0]?.text);
  });

  test('a seed repeats itself, another differs', async () => {
    const { client } = await serve();
    const ask = (seed: number) =>
      client.completions
        .create({ model: 'toy', prompt: PROMPT, max_tokens: 60, temperature: 1.5, seed })
        .then((answer) => answer.choices[0]?.text);
    expect(await ask(7)).toBe(await ask(7));
    expect(await ask(7)).not.toBe(await ask(8));
  });

  test('a stop string ends the text before itself, in a stream too', async () => {
    const { client } = await serve();
    const ask = { model: 'toy', prompt: PROMPT, max_tokens: 60, temperature: 0 };
    const all = (await client.completions.create(ask)).choices[0]?.text as string;
    const stop = all.slice(20, 23);
    const cut = all.slice(0, all.indexOf(stop));
    const whole = await client.completions.create({ ...ask, stop });
    expect(whole.choices[0]).toMatchObject({ text: cut, finish_reason: 'stop' });
    let text = '';
    for await (const chunk of await client.completions.create({
      ...ask,
      stop: ['~', stop],
      stream: true,
    })) {
      text += chunk.choices[0]?.text ?? '';
    }
    expect(text).toBe(cut);
  });

  test('logprobs are logarithms of probabilities, the best first', async () => {
    const { client } = await serve();
    const answer = await client.completions.create({
      model: 'toy',
      prompt: PROMPT,
      max_tokens: 5,
      temperature: 0,
      logprobs: 3,
    });
    const logprobs = answer.choices[0]?.logprobs as Any;
    expect(logprobs.tokens).toHaveLength(5);
    expect(logprobs.tokens.join('')).toBe(answer.choices[0]?.text);
    expect(logprobs.text_offset).toEqual([0, 1, 2, 3, 4]);
    logprobs.top_logprobs.forEach((top: Record<string, number>, i: number) => {
      expect(Object.keys(top)).toHaveLength(3);
      expect(Object.values(top)[0]).toBe(logprobs.token_logprobs[i]);
      expect(Object.values(top).reduce((sum, value) => sum + Math.exp(value), 0)).toBeLessThan(1);
      expect(logprobs.token_logprobs[i]).toBeLessThan(0);
    });
  });
});

describe('chat', () => {
  const messages = [{ role: 'user' as const, content: 'Tell me of the sea.' }];

  test('every id that the contract names ends an answer, and no other', async () => {
    expect(servers.toy.files.contract.tokenizer.ends).toEqual([256, 259]);
    const ask = { model: 'toy', messages, temperature: 0, max_completion_tokens: 60 };
    const ended = async (endId: number) => {
      const { client } = await serve({ endAt: 60, endId });
      const answer = await client.chat.completions.create(ask);
      return answer.choices[0]?.finish_reason;
    };
    expect(await ended(256)).toBe('stop');
    expect(await ended(259)).toBe('stop');
    expect(await ended(258)).toBe('length');
  });

  test('the openai client gets role, deltas, finish reason, usage and logprobs', async () => {
    const { client } = await serve({ endAt: 60 });
    const ask = {
      model: 'toy',
      messages,
      temperature: 0,
      logprobs: true,
      top_logprobs: 2,
      max_completion_tokens: 100,
    };
    const whole = await client.chat.completions.create(ask);
    const message = whole.choices[0]?.message;
    expect(message?.role).toBe('assistant');
    expect(whole.choices[0]?.finish_reason).toBe('stop');
    expect(message?.content).not.toContain('<|end|>');
    const content = whole.choices[0]?.logprobs?.content ?? [];
    expect(content).toHaveLength(whole.usage?.completion_tokens ?? 0);
    expect(content[0]?.top_logprobs).toHaveLength(2);
    expect(content[0]?.bytes).toEqual([...Buffer.from(content[0]?.token ?? '')]);

    const seen: Any[] = [];
    const stream = await client.chat.completions.create({
      ...ask,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) seen.push(chunk);
    expect(seen[0].choices[0].delta).toMatchObject({ role: 'assistant', content: '' });
    expect(seen.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('')).toBe(
      message?.content,
    );
    expect(seen.at(-2).choices[0].finish_reason).toBe('stop');
    expect(seen.at(-1)).toMatchObject({ choices: [], usage: whole.usage });
    expect(new Set(seen.map((chunk) => chunk.id)).size).toBe(1);
    expect(seen.every((chunk) => chunk.object === 'chat.completion.chunk')).toBe(true);
  });

  test("the prompt is the model's own template", async () => {
    const { client, post } = await serve();
    const answer = await client.chat.completions.create({ model: 'toy', messages, max_tokens: 1 });
    const text = '<|user|>Tell me of the sea.<|end|><|assistant|>';
    const { count } = (await (await post('/tokenize', { text })).json()) as Any;
    expect(answer.usage?.prompt_tokens).toBe(count);
  });

  test('without a template it says so and names the field', async () => {
    const engine = new ToyEngine(servers.toy);
    const tokenizer = Object.create(servers.toy.tokenizer, {
      chatTemplate: { value: null },
    }) as Tokenizer;
    const server = createServer({ engine, tokenizer, contract: servers.toy.files });
    servers.own(server);
    const { url } = await server.listen(0);
    const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
    const error = await client.chat.completions
      .create({ model: 'lockstep', messages })
      .catch((caught) => caught);
    expect(error.status).toBe(400);
    expect(error.code).toBe('chat_template_missing');
    expect(error.param).toBe('messages');
  });
});

describe('traces and plans', () => {
  test('a traced stream tells the cuts that the plan of the same tokens has', async () => {
    const { post } = await serve();
    const response = await post('/v1/completions', {
      prompt: PROMPT.repeat(3),
      max_tokens: 80,
      temperature: 0,
      stream: true,
      lockstep: { trace: true },
    });
    const { events, done } = await eventsOf(response);
    expect(done).toBe(true);
    const traces = events.map((event) => event.lockstep).filter(Boolean);
    const text = traces.flatMap((trace) => trace.tokens.map((token: Any) => token.text)).join('');
    const cuts = traces.map((trace) => trace.cut).filter((cut) => cut !== null);
    const plan = (await (await post('/lockstep/plan', { text })).json()) as Any;
    expect(cuts).toEqual(plan.boundaries);
    expect(cuts.length).toBeGreaterThan(3);
    expect(traces.at(-1).position).toBe(plan.tokens.length);
    const boundary = traces.find((trace) => trace.cut !== null && trace.cut > 60);
    expect(boundary.retrieved.map((one: Any) => one.layer)).toEqual([1, 2]);
    for (const { heads } of boundary.retrieved) {
      for (const { head, spans } of heads) {
        expect(head).toBe(1);
        let rows = 0;
        for (const [from, to] of spans) {
          expect(from).toBeGreaterThanOrEqual(4);
          expect(to).toBeLessThanOrEqual(boundary.cut);
          rows += to - from;
        }
        expect(rows).toBe(8);
      }
    }
    expect(boundary.memory.total).toBeLessThan(boundary.memory.fullAttention);
    // Chunks that carry a trace alone have no choices; the text is that of the choices.
    const written = events.map((event) => event.choices[0]?.text ?? '').join('');
    expect((PROMPT.repeat(3) + written).startsWith(text)).toBe(true);
  });

  test('a whole answer tells its segments when asked', async () => {
    const { post } = await serve();
    const prompt = PROMPT.repeat(3);
    const ask = { prompt, max_tokens: 1, lockstep: { segments: true } };
    const { lockstep } = (await (await post('/v1/completions', ask)).json()) as Any;
    const plan = (await (await post('/lockstep/plan', { text: prompt })).json()) as Any;
    expect(lockstep.segments.map(([, end]: number[]) => end)).toEqual(plan.boundaries);
    const spans = [...lockstep.segments, ...(lockstep.open ? [lockstep.open] : [])].flat();
    expect(spans).toEqual(plan.segments.flatMap((segment: Any) => [segment.start, segment.end]));
  });

  test('a plan tiles the text exactly, whatever it is', async () => {
    const { post } = await serve();
    for (const text of [
      '',
      'a',
      PROMPT,
      'été ☃ 𝒳. '.repeat(20),
      '<|user|>hi.<|end|>',
      '\u0000\r\n',
    ]) {
      const plan = (await (await post('/lockstep/plan', { text })).json()) as Any;
      expect(plan.texts.join('')).toBe(text);
      expect(plan.segments.map((segment: Any) => segment.text).join('')).toBe(text);
      expect(
        plan.segments.filter((segment: Any) => segment.closed).map((segment: Any) => segment.end),
      ).toEqual(plan.boundaries);
      const { text: back } = (await (
        await post('/detokenize', { tokens: plan.tokens })
      ).json()) as Any;
      expect(back).toBe(text);
    }
  });

  test('the contract in short, without its tables', async () => {
    const { url } = await serve();
    const summary = (await (await fetch(`${url}/lockstep/contract`)).json()) as Any;
    expect(summary).toMatchObject({
      name: 'toy',
      digest: servers.toy.files.contract.digest,
      segment: { min: 16, max: 64 },
      carry: { size: 24, sinks: 4 },
      trained: { steps: 0, tokens: 0 },
    });
    expect(summary.tables).toBeUndefined();
    expect(summary.golden).toBeUndefined();
  });
});
