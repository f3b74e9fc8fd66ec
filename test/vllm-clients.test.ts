// Clients that leave, and clients that read slowly or not at all, in front of vLLM's protocol.
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { type Any, eventsOf, PROMPT, until } from './server-client.ts';
import { fakeVllms, foreseen, outcomes, type Stream } from './vllm-fixture.ts';

const { served } = fakeVllms();

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

  test('slow readers get every token, and an error where vLLM dies under them', {
    timeout: 300_000,
  }, async () => {
    const { post, fake } = await served(['--max-len', '8000'], { maxTokens: 8000 });
    const asked: (Stream & { read: number })[] = [];
    const all = Array.from({ length: 32 }, async (_, i) => {
      const ask = { prompt: `${i}: ${PROMPT}`, max_tokens: i < 16 ? 400 : 6000 };
      const body = { ...ask, stream: true, logprobs: 5 };
      const mine = { ...ask, events: [], done: false, read: 0 };
      asked.push(mine);
      const { body: stream } = await post('/v1/completions', body);
      async function* slowly() {
        for await (const chunk of stream as unknown as AsyncIterable<Uint8Array>) {
          mine.read += 1;
          await sleep(2);
          yield chunk;
        }
      }
      Object.assign(mine, await eventsOf(new Response(ReadableStream.from(slowly()))));
    });
    // The short ones are whole, each of the long ones is in the middle of its text.
    await until(() => asked.slice(0, 16).every(({ done }) => done), 120);
    await until(() => asked.every(({ read }) => read > 3), 120);
    fake.child.kill('SIGKILL');
    await Promise.all(all);
    const { complete, error, wrong } = outcomes(asked);
    expect([complete + error, wrong]).toEqual([32, 0]);
    expect(complete).toBeGreaterThanOrEqual(16);
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
