// Requests that are refused in OpenAI's words, with the field's name.
import { once } from 'node:events';
import { readFile, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { createServer } from '../src/server/index.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import type { Any } from './server-client.ts';
import { toyServers } from './server-fixture.ts';
import { makeToy, ToyEngine } from './server-toy.ts';

const servers = toyServers();
const { serve } = servers;

describe('bad requests', () => {
  const hi = [{ role: 'user', content: 'a' }];
  /** By endpoint: a body, the field to be named, the code. Texts are sent as they stand. */
  const cases: Record<string, [body: unknown, param: string | null, code: string][]> = {
    '/v1/completions': [
      [{}, 'prompt', 'missing_parameter'],
      [{ prompt: null }, 'prompt', 'invalid_value'],
      [{ prompt: '' }, 'prompt', 'invalid_value'],
      [{ prompt: ['a', 5] }, 'prompt[1]', 'invalid_value'],
      [{ prompt: [[1], [2, 'x']] }, 'prompt[1][1]', 'invalid_value'],
      [{ prompt: [[1], [2, 999]] }, 'prompt[1][1]', 'invalid_value'],
      [{ prompt: ['a', ''] }, 'prompt[1]', 'invalid_value'],
      [{ prompt: [1, 'x'] }, 'prompt[1]', 'invalid_value'],
      [{ prompt: [1, 2, 999] }, 'prompt[2]', 'invalid_value'],
      [{ prompt: [-1] }, 'prompt[0]', 'invalid_value'],
      ['{"prompt":"\\ud83d"}', 'prompt', 'invalid_value'],
      [{ prompt: 'a', beams: 4 }, 'beams', 'unknown_parameter'],
      ['{"prompt":"a","__proto__":{"n":2}}', '__proto__', 'unknown_parameter'],
      [{ prompt: 'a', temperature: 3 }, 'temperature', 'invalid_value'],
      ['{"prompt":"a","temperature":1e999}', 'temperature', 'invalid_type'],
      [{ prompt: 'a', top_p: '1' }, 'top_p', 'invalid_type'],
      [{ prompt: 'a', top_p: 0 }, 'top_p', 'invalid_value'],
      [{ prompt: 'a', max_tokens: 0 }, 'max_tokens', 'invalid_value'],
      [{ prompt: 'a', max_tokens: 1.5 }, 'max_tokens', 'invalid_type'],
      [{ prompt: 'a', stop: ['1', '2', '3', '4', '5'] }, 'stop', 'invalid_value'],
      [{ prompt: 'a', stop: [''] }, 'stop', 'invalid_value'],
      [{ prompt: 'a', seed: 'x' }, 'seed', 'invalid_type'],
      [{ prompt: 'a', seed: 2 ** 53 - 1, n: 2 }, 'seed', 'invalid_value'],
      [{ prompt: 'a', seed: 2 ** 53 - 4, n: 5 }, 'seed', 'invalid_value'],
      [{ prompt: 'a', logprobs: 21 }, 'logprobs', 'invalid_value'],
      [{ prompt: 'a', n: 0 }, 'n', 'invalid_value'],
      [{ prompt: 'a', n: 129 }, 'n', 'invalid_value'],
      [{ prompt: 'a', echo: 'yes' }, 'echo', 'invalid_type'],
      [{ prompt: 'a', suffix: 'b' }, 'suffix', 'unsupported_parameter'],
      [{ prompt: 'a', logit_bias: { 5: 101 } }, 'logit_bias.5', 'invalid_value'],
      [{ prompt: 'a', logit_bias: { 260: 1 } }, 'logit_bias', 'invalid_value'],
      [{ prompt: 'a', logit_bias: { x: 1 } }, 'logit_bias.x', 'invalid_value'],
      [{ prompt: 'a', logit_bias: { 122: 60, '0122': 60 } }, 'logit_bias.0122', 'invalid_value'],
      [{ prompt: 'a', logit_bias: { '00': 1 } }, 'logit_bias.00', 'invalid_value'],
      [{ prompt: 'a', presence_penalty: 3 }, 'presence_penalty', 'invalid_value'],
      [{ prompt: 'a', frequency_penalty: '1' }, 'frequency_penalty', 'invalid_type'],
      [{ prompt: 'a', repetition_penalty: 0 }, 'repetition_penalty', 'invalid_value'],
      [{ prompt: 'a', min_tokens: 17 }, 'min_tokens', 'invalid_value'],
      [{ prompt: 'a', min_p: 2 }, 'min_p', 'invalid_value'],
      [
        { prompt: ['a', 'b'], stream: true, lockstep: { trace: true } },
        'lockstep.trace',
        'invalid_value',
      ],
      [{ prompt: 'a', n: 2, lockstep: { segments: true } }, 'lockstep.segments', 'invalid_value'],
      [{ prompt: 'a', model: 'gpt-9' }, 'model', 'model_not_found'],
      [{ prompt: 'a', stream_options: {} }, 'stream_options', 'invalid_value'],
      [{ prompt: 'a', lockstep: { trace: true } }, 'lockstep.trace', 'invalid_value'],
      [{ prompt: 'a', lockstep: { x: 1 } }, 'lockstep.x', 'unknown_parameter'],
      [{ prompt: 'a'.repeat(300) }, 'prompt', 'context_length_exceeded'],
      [{ prompt: 'a', max_tokens: 300 }, 'max_tokens', 'context_length_exceeded'],
      ['{"prompt": "a"', null, 'invalid_json'],
      ['"a"', null, 'invalid_json'],
      ['[]', null, 'invalid_type'],
      ['', 'prompt', 'missing_parameter'],
    ],
    '/v1/chat/completions': [
      [{}, 'messages', 'missing_parameter'],
      [{ messages: [] }, 'messages', 'invalid_value'],
      [{ messages: hi, seed: 2 ** 53 - 1, n: 2 }, 'seed', 'invalid_value'],
      [{ messages: [{ role: 'narrator', content: 'a' }] }, 'messages[0].role', 'invalid_value'],
      [
        { messages: [{ role: 'tool', content: 'a' }] },
        'messages[0].tool_call_id',
        'missing_parameter',
      ],
      [{ messages: ['hi'] }, 'messages[0]', 'invalid_type'],
      [
        { messages: [{ role: 'assistant', content: null }] },
        'messages[0].content',
        'invalid_value',
      ],
      [
        { messages: [{ role: 'assistant', content: 'a', audio: { id: 'b' } }] },
        'messages[0].audio',
        'invalid_type',
      ],
      [{ messages: [{ role: 'user' }] }, 'messages[0].content', 'missing_parameter'],
      [{ messages: [...hi, { role: 'user', content: 5 }] }, 'messages[1].content', 'invalid_value'],
      [
        { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
        'messages[0].content[0].type',
        'invalid_value',
      ],
      [
        { messages: [{ role: 'user', content: 'a', named: 'b' }] },
        'messages[0].named',
        'unknown_parameter',
      ],
      [{ messages: [{ role: 'user', content: 'a', name: 5 }] }, 'messages[0].name', 'invalid_type'],
      [{ messages: hi, tools: [{ type: 'function' }] }, 'tools[0].function', 'missing_parameter'],
      [{ messages: hi, tool_choice: 'required' }, 'tool_choice', 'invalid_value'],
      [{ messages: hi, parallel_tool_calls: false }, 'parallel_tool_calls', 'invalid_value'],
      [
        { messages: hi, chat_template_kwargs: { messages: [] } },
        'chat_template_kwargs.messages',
        'invalid_value',
      ],
      [{ messages: hi, chat_template_kwargs: 5 }, 'chat_template_kwargs', 'invalid_type'],
      [
        { messages: hi, stream: true, stream_options: { pad: true } },
        'stream_options.pad',
        'unknown_parameter',
      ],
      [
        { messages: hi, tools: [{ type: 'function', function: { name: 'a' } }] },
        'tools',
        'invalid_value',
      ],
      [{ messages: hi, response_format: { type: 'xml' } }, 'response_format.type', 'invalid_value'],
      [{ messages: hi, top_logprobs: 1 }, 'top_logprobs', 'invalid_value'],
      [{ messages: hi, max_tokens: 1, max_completion_tokens: 2 }, 'max_tokens', 'invalid_value'],
      [
        { messages: hi, max_completion_tokens: 900 },
        'max_completion_tokens',
        'context_length_exceeded',
      ],
    ],
    '/lockstep/plan': [[{ text: 5 }, 'text', 'invalid_type']],
    '/tokenize': [
      [{ text: 'a'.repeat(5000) }, null, 'body_too_large'],
      [{ text: 'a', add: true }, 'add', 'unknown_parameter'],
    ],
    '/detokenize': [[{ tokens: [5000] }, 'tokens[0]', 'invalid_value']],
  };
  const statuses: Record<string, number> = { body_too_large: 413, model_not_found: 404 };

  test('each is refused in OpenAI’s words with the field’s name', async () => {
    const { post, engine } = await serve({}, { maxTokens: 256, maxBodyBytes: 4096 });
    const all = Object.entries(cases).flatMap(([path, list]) =>
      list.map((one) => [path, ...one] as const),
    );
    for (const [path, body, param, code] of all) {
      const response = await post(path, body);
      const answer = (await response.json()) as Any;
      const got = [response.status, answer.error.param, answer.error.code];
      const what = `${JSON.stringify(body).slice(0, 80)}: ${answer.error.message}`;
      expect(got, what).toEqual([statuses[code] ?? 400, param, code]);
      expect(Object.keys(answer.error).sort()).toEqual(['code', 'message', 'param', 'type']);
      expect(answer.error.type).toBe('invalid_request_error');
      expect(response.headers.get('x-request-id')).toBeTruthy();
    }
    expect(engine.steps).toBe(0);
  });

  test('values that ask for nothing are taken', async () => {
    const { post } = await serve();
    const response = await post('/v1/chat/completions', {
      model: 'toy',
      messages: [
        { role: 'user', content: [{ type: 'text', text: 'Hi' }] },
        { role: 'assistant', content: 'Hello', refusal: null },
        { role: 'user', content: 'Go on' },
      ],
      max_tokens: 1,
      n: 1,
      presence_penalty: 0,
      frequency_penalty: 0,
      response_format: { type: 'text' },
      tools: [],
      stop: null,
      seed: null,
      user: 'someone',
    });
    expect(response.status).toBe(200);
  });

  test('other media types, paths and verbs', async () => {
    const { url, post } = await serve();
    const text = await fetch(`${url}/v1/completions`, { method: 'POST', body: '{"prompt":"a"}' });
    expect(text.status).toBe(415);
    const form = await post('/v1/completions', 'prompt=a', {
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    });
    expect(form.status).toBe(415);
    expect((await fetch(`${url}/v2/nothing`)).status).toBe(404);
    const get = await fetch(`${url}/v1/completions`);
    expect([get.status, get.headers.get('allow')]).toEqual([405, 'POST']);
    expect((await fetch(`${url}/page/..%2f..%2fserver.ts`)).status).toBe(404);
    expect((await fetch(`${url}/v1/models/other`)).status).toBe(404);
  });

  test('a foreign host name is refused on loopback', async () => {
    const { port } = await serve();
    const request = http.get({
      port,
      host: '127.0.0.1',
      path: '/v1/models',
      headers: { host: 'evil.example' },
    });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    response.resume();
    expect(response.statusCode).toBe(403);
  });

  test('a body that ends early does not hold the server', async () => {
    const { port, engine, url } = await serve();
    const socket = net.connect(port, '127.0.0.1');
    socket.write(
      'POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{"prompt":',
    );
    await sleep(50);
    socket.destroy();
    expect((await fetch(`${url}/health/live`)).status).toBe(200);
    expect(engine.sessions).toBe(0);
  });
});

describe('texts that cannot be ids of the model are the client’s to change', () => {
  test('a token beyond the model’s vocabulary', async () => {
    const toy = await makeToy();
    try {
      // A tokenizer with a token more than the model has embeddings.
      const file = path.join(toy.dir, 'config.json');
      const config = JSON.parse(await readFile(file, 'utf8'));
      await writeFile(file, JSON.stringify({ ...config, vocab_size: 259 }));
      const engine = new ToyEngine(toy);
      const tokenizer = await loadTokenizer(toy.dir);
      const server = servers.own(createServer({ engine, tokenizer, contract: toy.files }));
      const { url } = await server.listen(0);
      const bad = 'hi <|assistant|>';
      for (const [route, body] of [
        ['/v1/completions', { prompt: bad }],
        ['/v1/completions', { prompt: bad + 'a'.repeat(20_000) }],
        ['/v1/chat/completions', { messages: [{ role: 'user', content: bad }] }],
        ['/v1/responses', { input: bad }],
        ['/tokenize', { text: bad }],
        ['/lockstep/plan', { text: bad }],
      ] as const) {
        const headers = { 'content-type': 'application/json' };
        const init = { method: 'POST', headers, body: JSON.stringify(body) };
        const response = await fetch(url + route, init);
        const { error } = (await response.json()) as Any;
        expect([route, response.status]).toEqual([route, 400]);
        expect(error).toMatchObject({ type: 'invalid_request_error', code: 'LS_TOKEN_RANGE' });
        expect(error.message).toContain('<|assistant|>');
      }
    } finally {
      await rm(toy.dir, { recursive: true, force: true });
    }
  });

  test('blanks without end', async () => {
    const { post } = await serve({}, { maxBodyBytes: 8 << 20, maxTokens: 8 << 20 });
    const response = await post('/tokenize', { text: ' '.repeat(4_400_000) });
    expect(response.status).toBe(400);
    expect(((await response.json()) as Any).error).toMatchObject({ code: 'LS_TEXT_UNSPLITTABLE' });
  });
});
