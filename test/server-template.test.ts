// Chat templates that never end, take all memory or write without end: the server and its streams go on.
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { createServer } from '../src/server/index.ts';
import { type TemplateLimits, TemplateRenderer } from '../src/template/template.ts';
import { clientOf, eventsOf, PROMPT, until } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { makeToy, ToyEngine } from './server-toy.ts';

const servers = toyServers();
const folders: string[] = [];
afterAll(() => {
  for (const dir of folders) rmSync(dir, { recursive: true, force: true });
});
const messages = [{ role: 'user' as const, content: 'Tell me of the sea.' }];
// Jinja2's sandbox itself refuses a range of more than 100,000.
const HANG =
  '{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}';
const GROW =
  "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";

/** A server over a toy whose checkpoint brings this template. */
async function serveTemplate(source: string, limits: Partial<TemplateLimits>) {
  const toy = await makeToy(source);
  folders.push(toy.dir);
  const engine = new ToyEngine(toy, { delayMs: 5 });
  const warned: unknown[] = [];
  const warn = (error: unknown) => warned.push(error);
  const options = { model: 'toy', drainMs: 500, template: limits, warn };
  const { tokenizer, files: contract } = toy;
  const server = servers.own(createServer({ engine, tokenizer, contract, options }));
  const { url, port } = await server.listen(0);
  return { dir: toy.dir, engine, warned, ...clientOf(url, port) };
}

const cases: Record<string, [source: string, limits: Partial<TemplateLimits>, says: RegExp]> = {
  'never ends': [HANG, { milliseconds: 1500 }, /a result within 1.5 s/],
  'takes all memory': [GROW, { mebibytes: 64, milliseconds: 120_000 }, /at most 64 MiB of memory/],
  'writes without end': [
    `${'{% for i in range(300) %}'.repeat(2)}wide{% endfor %}{% endfor %}`,
    { characters: 100_000 },
    /at most 100000 characters from the template, got 360000/,
  ],
};

describe('a chat template that', () => {
  test.each(Object.entries(cases))(
    '%s is refused; another stream goes on meanwhile',
    async (_, [source, limits, says]) => {
      const { post, engine, url, dir } = await serveTemplate(source, limits);
      const ask = { prompt: PROMPT, max_tokens: 20_000, stream: true };
      const leave = new AbortController();
      const response = await post('/v1/completions', ask, { signal: leave.signal });
      let events = 0;
      const stream = eventsOf(response, () => {
        events += 1;
      }).catch(() => {});
      await until(() => events > 0);
      for (let again = 0; again < 2; again++) {
        const before = events;
        const answer = await post('/v1/chat/completions', { model: 'toy', messages });
        expect(answer.status).toBe(400);
        const { error } = (await answer.json()) as { error: { code: string; message: string } };
        expect(error.code).toBe('LS_TEMPLATE_LIMIT');
        expect(error.message).toMatch(says);
        expect(error.message).toContain(`${dir}/chat_template.jinja`);
        // The event loop was free: the engine's steps, of 5 ms each, went on.
        await until(() => events > before + 3);
      }
      expect((await fetch(`${url}/health/ready`)).status).toBe(200);
      leave.abort();
      await stream;
      await until(() => engine.sessions === 0);
    },
    180_000,
  );

  test('cannot be read refuses chats with its file and line; completions go on', async () => {
    const { post, client, dir, warned } = await serveTemplate(
      'a\n{% for message in messages %}',
      {},
    );
    const place = `${dir}/chat_template.jinja, line 2`;
    for (let again = 0; again < 2; again++) {
      const chat = await post('/v1/chat/completions', { model: 'toy', messages });
      expect(chat.status).toBe(400);
      const { error } = (await chat.json()) as { error: { code: string; message: string } };
      expect(error.code).toBe('LS_TEMPLATE_SYNTAX');
      expect(error.message).toContain(place);
      const plain = await client.completions.create({
        model: 'toy',
        prompt: PROMPT,
        max_tokens: 2,
      });
      expect(plain.usage?.completion_tokens).toBe(2);
    }
    await until(() => warned.length > 0);
    expect(warned).toMatchObject([{ code: 'LS_TEMPLATE_SYNTAX' }]);
  }, 120_000);

  test('fails for a conversation names the line, and renders the next', async () => {
    const source =
      '{{ messages[0].content }}\n{{ messages[1].content + 1 if messages|length > 1 }}';
    const { post, client, dir } = await serveTemplate(source, {});
    const two = await post('/v1/chat/completions', {
      model: 'toy',
      messages: [...messages, ...messages],
    });
    expect(two.status).toBe(400);
    const { error } = (await two.json()) as { error: { message: string } };
    expect(error.message).toContain('TypeError: can only concatenate str');
    expect(error.message).toContain(`(${dir}/chat_template.jinja, line 2)`);
    const one = await client.chat.completions.create({ model: 'toy', messages, max_tokens: 1 });
    expect(one.usage?.prompt_tokens).toBeGreaterThan(3);
  }, 120_000);

  test('calls itself without end is refused, and renders the next', async () => {
    const renderer = new TemplateRenderer(
      '{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) if deep else 1 }}',
      'a test',
    );
    try {
      await expect(renderer.render({ deep: true })).rejects.toThrow(/RecursionError/);
      expect(await renderer.render({ deep: false })).toBe('1');
    } finally {
      renderer.close();
    }
  }, 120_000);

  test.each([
    '{{ cycler.__init__.__globals__ }}',
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ raise_exception.__globals__['json'] }}",
  ])(
    'reaches for Python itself is refused: %s',
    async (source) => {
      const renderer = new TemplateRenderer(source, 'a test');
      await expect(renderer.render({}).finally(() => renderer.close())).rejects.toThrow(
        /SecurityError/,
      );
    },
    120_000,
  );

  test('refuses a conversation says why, and renders the next', async () => {
    const source = `{% if messages|length > 1 %}{{ raise_exception('one at a time') }}{% endif %}<|user|>{{ messages[0]['content'] }}`;
    const { post, client } = await serveTemplate(source, {});
    const two = await post('/v1/chat/completions', {
      model: 'toy',
      messages: [...messages, ...messages],
    });
    expect(two.status).toBe(400);
    expect(await two.text()).toContain('refuses these messages: one at a time');
    const one = await client.chat.completions.create({ model: 'toy', messages, max_tokens: 1 });
    expect(one.usage?.prompt_tokens).toBeGreaterThan(5);
  });
});

describe('the renderer', () => {
  test('renders beside a conversation that takes its whole time, and in order of a queue', async () => {
    const source = `{% if hang %}${HANG}{% endif %}{{ name }}`;
    const renderer = new TemplateRenderer(source, 'a test', { milliseconds: 4000 });
    try {
      const hanging = renderer.render({ hang: true }).catch((error) => error);
      const names = Array.from({ length: 20 }, (_, i) => `n${i}`);
      const done: string[] = [];
      await Promise.all(
        names.map((name) => renderer.render({ name }).then((text) => done.push(text))),
      );
      expect(done).toEqual(names);
      expect((await hanging).code).toBe('LS_TEMPLATE_LIMIT');
    } finally {
      renderer.close();
    }
  }, 60_000);

  test('refuses more that wait than it may hold', async () => {
    const renderer = new TemplateRenderer(HANG, 'a test', { milliseconds: 3000, waiting: 1 });
    const settled = Array.from({ length: 5 }, () =>
      renderer.render({}).then(
        () => 'text',
        (error: Error) => error.message,
      ),
    );
    const refused = await Promise.race(settled);
    expect(refused).toContain('at most 1 conversations that wait');
    renderer.close();
    const all = await Promise.all(settled);
    expect(all.every((message) => message !== 'text')).toBe(true);
  }, 60_000);

  test.skipIf(process.platform !== 'linux')(
    'has nothing of this environment, and ends seconds after a close',
    async () => {
      process.env['LOCKSTEP_TEST_SECRET'] = 'secret';
      const renderer = new TemplateRenderer('{{ name }}', 'a test');
      try {
        expect(await renderer.render({ name: 'x' })).toBe('x');
        const [pid] = renderer.pids;
        const environment = readFileSync(`/proc/${pid}/environ`, 'utf8')
          .split('\0')
          .filter(Boolean);
        expect(environment.filter((entry) => !/^(NODE_CHANNEL|TZ=)/.test(entry))).toEqual([]);
        renderer.close();
        await until(() => !existsSync(`/proc/${pid}`));
      } finally {
        delete process.env['LOCKSTEP_TEST_SECRET'];
        renderer.close();
      }
    },
  );

  test('its process serves whoever opens the same template next, and nobody else', async () => {
    const source = '{{ name }} {{ other }}';
    const open = (text: string) => new TemplateRenderer(text, 'a test');
    const first = open(source);
    expect(await first.render({ name: 'x', other: 1 })).toBe('x 1');
    const { pids } = first;
    // Its start takes seconds, and what the first one leaves lives only five.
    const another = open(`${source}.`);
    expect(await another.render({ name: 'y' })).toBe('y .');
    first.close();
    const second = open(source);
    // What the first one was given is gone.
    expect(await second.render({ other: 2 })).toBe(' 2');
    expect(second.pids).toEqual(pids);
    const third = open(source);
    expect(await third.render({ name: 'z' })).toBe('z ');
    expect(third.pids).not.toEqual(pids);
    for (const renderer of [another, second, third]) renderer.close();
    first.close();
  }, 60_000);
});
