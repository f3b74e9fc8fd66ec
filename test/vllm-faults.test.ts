// What vLLM may do wrong, before an answer and in the middle of it: an error each time, never a false end.
import { describe, expect, test } from 'vitest';
import { type Any, eventsOf, PROMPT, until } from './server-client.ts';
import { fakeVllms, foreseen, outcomes } from './vllm-fixture.ts';

const { served } = fakeVllms();

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
    // On a busy machine, half a second without an event is no other fault.
    const stallMs = (fault as Any).kind === 'stall' ? 500 : 60_000;
    const { post, fake } = await served([], {}, { stallMs });
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

  test.each([
    ['bytes that are not UTF-8', { kind: 'bytes', hex: 'fffe0a0a' }],
    ['an event that is no JSON', { kind: 'bytes', hex: hex('data: {"a\n\n') }],
    ['40 MB without an event', { kind: 'huge' }],
  ])('%s in 24 of 64 streams: 24 errors, 40 answers, none false', async (_, fault) => {
    const { post, fake } = await served();
    await fake.fault({ ...fault, after: 10, times: 24 });
    const streams = Array.from({ length: 64 }, async (_, i) => {
      const ask = { prompt: `${i}: ${PROMPT}`, max_tokens: 20 + i };
      return {
        ...ask,
        ...(await eventsOf(await post('/v1/completions', { ...ask, stream: true }))),
      };
    });
    expect(outcomes(await Promise.all(streams))).toEqual({ complete: 40, error: 24, wrong: 0 });
  });

  test('killed under 64 streams: each ends with an error or is complete, none falsely', async () => {
    const { post, fake } = await served(['--delay', '0.01']);
    const asked = Array.from({ length: 64 }, async (_, i) => {
      const prompt = `${i}: ${PROMPT}`;
      // Eight end soon; the others run long after the kill.
      const max_tokens = i < 8 ? 5 + i : 400;
      const response = await post('/v1/completions', { prompt, max_tokens, stream: true });
      if (response.status !== 200) {
        const { error } = (await response.json()) as Any;
        return { prompt, max_tokens, events: [{ error }], done: false };
      }
      return { prompt, max_tokens, ...(await eventsOf(response)) };
    });
    await until(async () => (await fake.seen()).completed >= 3);
    fake.child.kill('SIGKILL');
    const { complete, error, wrong } = outcomes(await Promise.all(asked));
    expect(wrong).toBe(0);
    expect(complete).toBeGreaterThanOrEqual(3);
    expect(error).toBeGreaterThan(10);
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

function hex(text: string): string {
  return Buffer.from(text).toString('hex');
}
