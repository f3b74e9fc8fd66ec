// A server in front of fake vLLMs, for a whole test file.
import { rm } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { type Any, until } from './server-client.ts';
import { makeToy, type Toy } from './server-toy.ts';
import { foreseen } from './vllm-foreseen.ts';
import { Opened } from './vllm-upstream.ts';

export { foreseen };

type Relay = Awaited<ReturnType<Opened['relay']>>;

export interface FakeVllms {
  readonly toy: Toy;
  readonly opened: Opened;
  /** One fake and a server that has believed it. */
  served(
    args?: readonly string[],
    options?: Parameters<Opened['relay']>[1],
    upstream?: Parameters<Opened['relay']>[2],
  ): Promise<Relay & { fake: Awaited<ReturnType<Opened['fake']>> }>;
}

/**
 * Everything is closed after each test; the checkpoint goes at the end of the file.
 *
 * @param make the checkpoint
 */
export function fakeVllms(make: () => Promise<Toy> = makeToy): FakeVllms {
  let toy: Toy;
  let opened: Opened;
  beforeAll(async () => {
    toy = await make();
    opened = new Opened(toy);
  });
  afterEach(() => opened.close());
  afterAll(() => rm(toy.dir, { recursive: true, force: true }));
  return {
    get toy() {
      return toy;
    },
    get opened() {
      return opened;
    },
    async served(args = [], options = {}, upstream = {}) {
      const fake = await opened.fake(...args);
      const relay = await opened.relay([fake.url], options, upstream);
      await until(async () => (await fetch(`${relay.url}/health/ready`)).status === 200);
      return { fake, ...relay };
    },
  };
}

export interface Outcomes {
  /** The whole text, one finish reason, `[DONE]`. */
  complete: number;
  /** Part of the text, then an error event with a code of vLLM's, and nothing behind it. */
  error: number;
  /** Anything else. */
  wrong: number;
}

export interface Stream {
  prompt: string;
  max_tokens: number;
  events: Any[];
  done: boolean;
}

/** What streams came to. */
export function outcomes(streams: readonly Stream[]): Outcomes {
  const count: Outcomes = { complete: 0, error: 0, wrong: 0 };
  for (const { prompt, max_tokens, events, done } of streams) {
    const expected = foreseen(prompt, max_tokens);
    const text = events.map((event) => event.choices?.[0]?.text ?? '').join('');
    const finish = events.flatMap((event) => event.choices?.[0]?.finish_reason ?? []);
    const errors = events.flatMap((event) => event.error?.code ?? []);
    const code = events.at(-1)?.error?.code ?? '';
    if (done && text === expected && finish.join() === 'length' && errors.length === 0) {
      count.complete += 1;
    } else if (!done && expected.startsWith(text) && finish.length === 0 && errors.length === 1) {
      count[/^LS_VLLM_/.test(code) ? 'error' : 'wrong'] += 1;
    } else count.wrong += 1;
  }
  return count;
}
