// What is refused without a word to vLLM.
import net from 'node:net';
import { describe, expect, test } from 'vitest';
import { type Any, until } from './server-client.ts';
import { fakeVllms } from './vllm-fixture.ts';

const { served } = fakeVllms();

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
