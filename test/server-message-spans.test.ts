// Where messages stand in a prompt whose template shows tools: their numbers as the request wrote them.
import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ChatTemplate, chatTemplate } from '../src/server/prompt/chat.ts';
import { messageSpansOf } from '../src/server/prompt/message-spans.ts';
import { makeToy, type Toy } from './server-toy.ts';

let toy: Toy;
let template: ChatTemplate;
beforeAll(async () => {
  toy = await makeToy(
    '{{ tools | tojson }}{{ limit }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}',
  );
  template = chatTemplate(toy.tokenizer) as ChatTemplate;
}, 120_000);
afterAll(() => {
  template.close();
  rmSync(toy.dir, { recursive: true, force: true });
});

test('are found only by the request as it came', async () => {
  // JavaScript reads 1.0 as 1.
  const body =
    '{"tools":[{"type":"function","function":{"name":"look","parameters":{"maximum":1.0}}}],"chat_template_kwargs":{"limit":2.0}}';
  const { tools, chat_template_kwargs: more } = JSON.parse(body);
  const messages = [
    { role: 'user', content: 'How deep is the sea?' },
    { role: 'assistant', content: 'Deep.' },
  ];
  const prompt = await template.render(messages, tools, more, body);
  expect(prompt).toContain('"maximum": 1.0}}}]2.0<user>');
  const messageSpans = await messageSpansOf(template, messages, tools, prompt, more, body);
  expect(messageSpans).toHaveLength(3);
  messages.forEach(({ content }, i) => {
    const { message, at, length, within } = messageSpans[i] as (typeof messageSpans)[number];
    expect([message, prompt.slice(at, at + length), within]).toEqual([i, content, 0]);
  });
  // Without it the two renderings differ, and the messages cannot be found.
  expect(await messageSpansOf(template, messages, tools, prompt, more)).toHaveLength(1);
}, 120_000);
