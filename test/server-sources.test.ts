// `lockstep.sources`: which spans of the prompt each segment of an answer retrieved, and where they stand.
import { rm } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { createServer } from '../src/server/index.ts';
import { type Any, clientOf, eventsOf, PROMPT } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { makeToy, ToyEngine } from './server-toy.ts';

const servers = toyServers();
const { serve } = servers;

const LONG = `${PROMPT} The keeper’s number is 417 — ☃. `.repeat(4);
const messages = [
  { role: 'system', content: 'user' },
  { role: 'user', content: LONG },
  { role: 'assistant', content: '<|end|><|user|>user' },
  { role: 'user', content: 'What is the number? Say it!' },
];
const render = (list: readonly { role: string; content: string }[]): string =>
  `${list.map(({ role, content }) => `<|${role}|>${content}<|end|>`).join('')}<|assistant|>`;
const ask = { messages, max_tokens: 90, temperature: 0, lockstep: { sources: true } };

async function asked(
  post: (path: string, body: unknown) => Promise<Response>,
  body: unknown,
  path = '/v1/chat/completions',
): Promise<Any> {
  return (await post(path, body)).json();
}

describe('sources', () => {
  test('are spans of the prompt with their text, their offsets and their message', async () => {
    const { post } = await serve();
    const answer = await asked(post, ask);
    const { sources } = answer.lockstep;
    const prompt = render(messages);
    const whole = prompt + answer.choices[0].message.content;
    const plan = await asked(post, { text: whole }, '/lockstep/plan');
    const promptTokens = answer.usage.prompt_tokens;
    const last = plan.boundaries.filter((at: number) => at <= promptTokens).at(-1);
    const later = plan.boundaries.filter(
      (at: number) => at > promptTokens && at < promptTokens + 90,
    );
    expect(sources.map(({ at }: Any) => at)).toEqual([last, ...later]);
    expect(later.length).toBeGreaterThan(0);
    expect(sources.map(({ segment }: Any) => segment)).toEqual(
      [last, ...later].map((at) => plan.boundaries.indexOf(at) + 1),
    );
    expect(sources[0].token).toBe(0);
    const messagesSeen = new Set<number>();
    for (const source of sources) {
      expect(source.heads).toBe(2);
      expect(source.whole).toBe(false);
      expect(source.spans.length).toBeGreaterThan(0);
      for (const { tokens, weight, text, chars, message } of source.spans) {
        expect(weight).toBeGreaterThan(0);
        expect(weight).toBeLessThanOrEqual(1);
        expect(text).toBe(whole.slice(...(chars as [number, number])));
        expect(text).toBe(plan.texts.slice(...tokens).join(''));
        if (message === null) continue;
        messagesSeen.add(message.index);
        if (message.index === messages.length) {
          const { content } = answer.choices[0].message;
          expect(text).toContain(content.slice(...message.chars));
          continue;
        }
        const { content } = messages[message.index] as Any;
        expect(text).toContain(content.slice(...message.chars));
        const at = render(messages.slice(0, message.index)).length - '<|assistant|>'.length;
        const head = `<|${messages[message.index]?.role}|>`.length;
        expect(prompt.slice(at + head + message.chars[0], at + head + message.chars[1])).toBe(
          content.slice(...message.chars),
        );
      }
    }
    expect(messagesSeen).toContain(1);
  });

  test('a stream tells them as segments begin, and a trace beside them is unchanged', async () => {
    const { post } = await serve();
    const whole = (await asked(post, ask)).lockstep.sources;
    const streamed = async (lockstep: object) => {
      const response = await post('/v1/chat/completions', { ...ask, stream: true, lockstep });
      const { events, done } = await eventsOf(response);
      expect(done).toBe(true);
      return events.map((event) => event.lockstep).filter(Boolean);
    };
    const alone = await streamed({ sources: true });
    expect(alone.every((part: Any) => Object.keys(part).join() === 'sources')).toBe(true);
    expect(alone.flatMap((part: Any) => part.sources)).toEqual(whole);
    expect(alone).toHaveLength(whole.length);
    const both = await streamed({ sources: true, trace: true });
    expect(both.flatMap((part: Any) => part.sources ?? [])).toEqual(whole);
    const traced = await streamed({ trace: true });
    expect(traced.some((part: Any) => 'sources' in part)).toBe(false);
    expect(both.map(({ sources: _, ...part }: Any) => part)).toEqual(traced);
  });

  test('nothing is told unless asked, and numbers do not change', async () => {
    const { post } = await serve();
    const plain = await asked(post, { ...ask, lockstep: {} });
    expect(plain.lockstep).toBeUndefined();
    const told = await asked(post, ask);
    expect(told.choices).toEqual(plain.choices);
    expect(told.usage).toEqual(plain.usage);
  });

  test('completions by text and by ids; the first segment reads from nothing', async () => {
    const { post } = await serve();
    const lockstep = { sources: true, segments: true };
    const body = { prompt: LONG, max_tokens: 3, temperature: 0, lockstep };
    const text = await asked(post, body, '/v1/completions');
    const ids = [...Buffer.from(LONG)];
    const byIds = await asked(post, { ...body, prompt: ids }, '/v1/completions');
    expect(byIds.lockstep).toEqual(text.lockstep);
    expect(text.lockstep.segments.length).toBeGreaterThan(2);
    for (const { chars, message, text: quote } of text.lockstep.sources[0].spans) {
      expect(message).toBeNull();
      expect(quote).toBe(LONG.slice(...(chars as [number, number])));
    }
    const short = await asked(post, { ...body, prompt: 'Hi' }, '/v1/completions');
    expect(short.lockstep.sources).toEqual([]);
  });

  test('a pool that fits is told as whole', async () => {
    const { post } = await serve();
    const body = { prompt: 'A b c d e f ghi. J', max_tokens: 2, lockstep: { sources: true } };
    const { lockstep } = await asked(post, body, '/v1/completions');
    // 16 tokens to the cut, 4 of them sinks, R = 8: a choice; with 12 rows or fewer there is none.
    expect(lockstep.sources[0]).toMatchObject({ segment: 1, at: 16, whole: false });
    const { contract } = servers.toy.files;
    const tight = { ...contract, retrieval: { ...contract.retrieval, size: 12 } };
    const engine = new ToyEngine(servers.toy);
    (engine as Any).contract = tight;
    const server = servers.own(
      createServer({
        engine,
        tokenizer: servers.toy.tokenizer,
        contract: { ...servers.toy.files, contract: tight },
        options: { model: 'toy' },
      }),
    );
    const { url, port } = await server.listen(0);
    const answer = await asked(clientOf(url, port).post, body, '/v1/completions');
    expect(answer.lockstep.sources[0].whole).toBe(true);
  });

  test.each([
    ['trims contents', '{{ message.content | trim }}', true],
    ['drops what was thought', "{{ message.content.split('</think>')[-1] }}", true],
    ['writes in capitals', '{{ message.content | upper }}', false],
    ['refuses what it does not know', '', false],
  ])('a template that %s', async (_, content, placed) => {
    const judged = content === '';
    const body = judged
      ? "{% if 'number' not in message.content %}{{ raise_exception('no number') }}{% endif %}{{ message.content }}"
      : content;
    const toy = await makeToy(
      `{% for message in messages %}{{ '<|user|>' }}${body}{{ '<|end|>' }}{% endfor %}`,
    );
    try {
      const server = servers.own(
        createServer({
          engine: new ToyEngine(toy),
          tokenizer: toy.tokenizer,
          contract: toy.files,
          options: { model: 'toy' },
        }),
      );
      const { url, port } = await server.listen(0);
      const content = `  \n<think>hm</think>${LONG}\n `;
      const answer = await asked(clientOf(url, port).post, {
        ...ask,
        messages: [{ role: 'user', content }],
      });
      const spans = answer.lockstep.sources[0].spans as Any[];
      expect(spans.length).toBeGreaterThan(0);
      for (const { text, message } of spans) {
        if (!placed) expect(message).toBeNull();
        else {
          expect(message?.index, text).toBe(0);
          expect(text).toContain(content.slice(...(message.chars as [number, number])));
        }
      }
    } finally {
      await rm(toy.dir, { recursive: true, force: true });
    }
  });

  test('is refused beside another value than true or false', async () => {
    const { post } = await serve();
    const answer = await asked(post, { ...ask, lockstep: { sources: 3 } });
    expect(answer.error.param).toBe('lockstep.sources');
  });
});
