// How tests talk to the server: real requests, a real SSE parser.
import { setTimeout as sleep } from 'node:timers/promises';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import OpenAI from 'openai';
import { expect } from 'vitest';

// biome-ignore lint/suspicious/noExplicitAny: answers are looked into freely
export type Any = any;

export const PROMPT = 'It was a dark and stormy night. The rain fell in torrents, except at times.';

export interface TestClient {
  url: string;
  port: number;
  /** POST JSON; a string is sent as it stands. */
  post(path: string, body: unknown, init?: RequestInit): Promise<Response>;
  client: OpenAI;
}

export function clientOf(url: string, port: number): TestClient {
  // fetch ends a stream whose response is garbage: a test may leave one unread, and it goes on.
  const responses: Response[] = [];
  return {
    url,
    port,
    async post(path, body, init = {}) {
      const response = await fetch(`${url}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: typeof body === 'string' ? body : JSON.stringify(body),
        ...init,
      });
      responses.push(response);
      return response;
    },
    client: new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 }),
  };
}

/** All events of a stream, as a real SSE parser reads them; `onEvent` sees each as it comes. */
export async function eventsOf(
  response: Response,
  onEvent: (event: Any) => void = () => {},
): Promise<{ events: Any[]; done: boolean }> {
  const events: Any[] = [];
  let done = false;
  const parser = createParser({
    onEvent: ({ data }: EventSourceMessage) => {
      if (data === '[DONE]') {
        done = true;
        return;
      }
      const event = JSON.parse(data);
      events.push(event);
      onEvent(event);
    },
  });
  const decoder = new TextDecoder();
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    parser.feed(decoder.decode(chunk, { stream: true }));
  }
  return { events, done };
}

/** Wait until something holds; fails after `seconds`. */
export async function until(test: () => boolean | Promise<boolean>, seconds = 30): Promise<void> {
  for (let i = 0; i < 100 * seconds; i++) {
    if (await test()) return;
    await sleep(10);
  }
  expect(await test()).toBe(true);
}
