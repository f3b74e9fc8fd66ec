// Several texts and several prompts a request, penalties and biases, prompts that come back with their scores.
import { describe, expect, test } from 'vitest';
import { logSoftmax } from '../src/engines/sampling.ts';
import { type Any, eventsOf, PROMPT } from './server-client.ts';
import { toyServers } from './server-fixture.ts';

const servers = toyServers();
const { serve } = servers;
const OTHER = 'The sea was calm. Nobody spoke, for there was nothing to say.';

/** Texts of a stream by choice, and their finish reasons. */
async function streamed(response: Response) {
  const { events, done } = await eventsOf(response);
  const texts: string[] = [];
  const reasons: string[] = [];
  for (const { index, text, finish_reason } of events.flatMap((event) => event.choices)) {
    texts[index] = (texts[index] ?? '') + text;
    if (finish_reason !== null) reasons[index] = finish_reason;
  }
  return { texts, reasons, done, usage: events.at(-1).usage };
}

describe('n', () => {
  test('texts are those of their own seeds; the prompt runs once', async () => {
    const { client, engine } = await serve();
    const ask = { model: 'toy', prompt: PROMPT, max_tokens: 30, temperature: 1.5 };
    const together = await client.completions.create({ ...ask, n: 3, seed: 40 });
    const steps = engine.steps;
    const alone = await Promise.all(
      [40, 41, 42].map((seed) => client.completions.create({ ...ask, seed })),
    );
    const texts = alone.map(({ choices }) => choices[0]?.text);
    expect(together.choices.map(({ text }) => text)).toEqual(texts);
    expect(new Set(texts).size).toBe(3);
    expect(together.choices.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(together.usage).toEqual({
      prompt_tokens: PROMPT.length,
      completion_tokens: 90,
      total_tokens: PROMPT.length + 90,
    });
    expect(engine.steps - steps).toBeGreaterThan(steps);
    expect(engine.sessions).toBe(0);
  });

  test('streamed they are the same, and chat has them too', async () => {
    const { client, post } = await serve();
    const ask = { model: 'toy', prompt: PROMPT, max_tokens: 20, n: 3, seed: 1 };
    const whole = await client.completions.create(ask);
    const { texts, reasons, done, usage } = await streamed(
      await post('/v1/completions', {
        ...ask,
        stream: true,
        stream_options: { include_usage: true },
      }),
    );
    expect(texts).toEqual(whole.choices.map(({ text }) => text));
    expect([reasons, done]).toEqual([['length', 'length', 'length'], true]);
    expect(usage).toEqual(whole.usage);
    const { prompt: _, ...rest } = ask;
    const messages = [{ role: 'user' as const, content: 'Hi' }];
    const chat = await client.chat.completions.create({ ...rest, messages });
    expect(new Set(chat.choices.map(({ message }) => message.content)).size).toBe(3);
  });

  test('a client that leaves in the middle of them frees every session', async () => {
    const { post, engine } = await serve({ delayMs: 5 });
    const leave = new AbortController();
    const response = await post(
      '/v1/completions',
      { prompt: PROMPT, max_tokens: 40, n: 3, stream: true },
      { signal: leave.signal },
    );
    await expect(
      eventsOf(response, ({ choices }) => {
        if (choices[0].index === 1) leave.abort();
      }),
    ).rejects.toThrow();
    await expect.poll(() => engine.sessions).toBe(0);
  });
});

describe('several prompts', () => {
  test('each gets its own texts, in order, as if it had come alone', async () => {
    const { client, post, engine } = await serve();
    const ask = { model: 'toy', max_tokens: 12, seed: 3, n: 2 };
    const prompts = [PROMPT, OTHER, PROMPT];
    const whole = await client.completions.create({ ...ask, prompt: prompts });
    const alone = await Promise.all(
      prompts.map((prompt) => client.completions.create({ ...ask, prompt })),
    );
    const texts = alone.flatMap(({ choices }) => choices.map(({ text }) => text));
    expect(whole.choices.map(({ text }) => text)).toEqual(texts);
    expect(whole.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5]);
    expect(whole.usage?.prompt_tokens).toBe(2 * PROMPT.length + OTHER.length);
    const ids = await Promise.all(
      prompts.map(async (text) => Array.from(await servers.toy.tokenizer.encode(text))),
    );
    const asIds = await client.completions.create({ ...ask, prompt: ids });
    expect(asIds.choices.map(({ text }) => text)).toEqual(texts);
    const stream = await post('/v1/completions', { ...ask, prompt: prompts, stream: true });
    expect((await streamed(stream)).texts).toEqual(texts);
    expect(engine.sessions).toBe(0);
  });
});

describe('echo', () => {
  test('the prompt comes first, with what the model thought of it', async () => {
    const { client, engine } = await serve();
    const ids = await servers.toy.tokenizer.encode(PROMPT);
    const prompt: Any = [Array.from(ids), OTHER];
    const answer = await client.completions.create({
      model: 'toy',
      prompt,
      max_tokens: 1,
      temperature: 0,
      echo: true,
      logprobs: 1,
      seed: 1,
    });
    const session = await engine.open();
    const { logits } = await session.step(ids, { rows: 'all', close: false });
    await session.close();
    const size = engine.info.vocabulary;
    const [first, second] = answer.choices as Any[];
    expect(first.text.slice(0, -1)).toBe(PROMPT);
    expect(second.text.slice(0, -1)).toBe(OTHER);
    const { tokens, token_logprobs: own, top_logprobs: top, text_offset: at } = first.logprobs;
    expect(tokens.join('')).toBe(first.text);
    expect([own[0], top[0]]).toEqual([null, null]);
    expect(at).toEqual([...first.text].map((_, i) => i));
    for (let i = 1; i < ids.length; i++) {
      const expected = logSoftmax(logits.subarray((i - 1) * size, i * size));
      expect(own[i]).toBe(expected[ids[i] as number]);
      expect(Math.max(...(Object.values(top[i]) as number[]))).toBe(Math.max(...expected));
      expect(top[i][tokens[i]]).toBe(own[i]);
    }
    // As lm-eval reads it: the continuation's sum, without the token that was generated.
    const sum = own.slice(4, -1).reduce((a: number, b: number) => a + b, 0);
    expect(sum).toBeLessThan(0);
  });

  test('alone it only puts the prompt in front; max_tokens 0 scores without writing', async () => {
    const { client, post } = await serve();
    const ask = { model: 'toy', prompt: PROMPT, max_tokens: 8, temperature: 0, n: 2 };
    const plain = await client.completions.create(ask);
    const echoed = await client.completions.create({ ...ask, echo: true });
    const texts = plain.choices.map(({ text }) => PROMPT + text);
    expect(echoed.choices.map(({ text }) => text)).toEqual(texts);
    expect(echoed.choices[0]?.logprobs).toBeNull();
    const stream = await post('/v1/completions', { ...ask, echo: true, stream: true });
    expect((await streamed(stream)).texts).toEqual(texts);
    const scored = await client.completions.create({
      model: 'toy',
      prompt: PROMPT,
      max_tokens: 0,
      echo: true,
      logprobs: 0,
    });
    expect(scored.choices[0]).toMatchObject({ text: PROMPT, finish_reason: 'length' });
    expect(scored.choices[0]?.logprobs?.tokens).toHaveLength(PROMPT.length);
    expect(scored.usage?.completion_tokens).toBe(0);
    const none = await post('/v1/completions', { prompt: PROMPT, max_tokens: 0 });
    expect([none.status, ((await none.json()) as Any).error.param]).toEqual([400, 'max_tokens']);
  });
});

describe('what changes the logits', () => {
  const ask = { model: 'toy', prompt: PROMPT, max_tokens: 40, temperature: 0 };

  test('a bias bans and forces tokens, and logprobs stay the model’s own', async () => {
    const { client } = await serve();
    const plain = await client.completions.create({ ...ask, logprobs: 0 });
    const first = plain.choices[0]?.text[0] as string;
    const banned = await client.completions.create({
      ...ask,
      logit_bias: { [first.charCodeAt(0)]: -100 },
    });
    expect(banned.choices[0]?.text).not.toContain(first);
    const forced = await client.completions.create({
      ...ask,
      logit_bias: { '122': 100 },
      logprobs: 0,
    });
    expect(forced.choices[0]?.text).toBe('z'.repeat(40));
    expect(forced.choices[0]?.logprobs?.token_logprobs?.[0]).toBeLessThan(-1);
  });

  test('penalties, top_k, min_p, min_tokens and ignore_eos do what vLLM does with them', async () => {
    const { post } = await serve({ endAt: PROMPT.length + 5 });
    const text = async (more: object) => {
      const response = await post('/v1/completions', { ...ask, ...more });
      return ((await response.json()) as Any).choices[0];
    };
    const plain = await text({});
    expect(plain).toMatchObject({ finish_reason: 'stop' });
    const least = await text({ min_tokens: 20 });
    expect(least.finish_reason).toBe('stop');
    expect(least.text.length).toBe(20);
    expect(await text({ ignore_eos: true })).toMatchObject({ finish_reason: 'length' });
    const without = await serve();
    const write = async (more: object) => {
      const { choices } = await without.client.completions.create({ ...ask, ...more } as Any);
      return (choices as Any)[0].text as string;
    };
    const free = await write({});
    const penalized = await write({ frequency_penalty: 2, presence_penalty: 2 });
    expect(new Set(penalized).size).toBeGreaterThan(new Set(free).size);
    expect(await write({ temperature: 2, top_k: 1, seed: 9 })).toBe(free);
    expect(await write({ temperature: 2, min_p: 1, seed: 9 })).toBe(free);
    expect(await write({ temperature: 2, seed: 9 })).not.toBe(free);
  });
});
