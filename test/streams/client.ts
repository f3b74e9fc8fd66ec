// What clients of a server see while its vLLM sends faulty streams, over real sockets.
import { type Any, eventsOf } from '../server-client.ts';
import { faultNames } from './faults.ts';
import { paceOf } from './pace.ts';
import { streamOf, textOf } from './upstream.ts';

/**
 * `complete`: the whole answer and its end. `error`: an answer's beginning, then an error, or a status
 * that says so. `false`: an end (finish reason and `[DONE]`) of what vLLM did not generate.
 * `other`: tokens that vLLM did not generate before an error. `cut`: neither an end nor an error.
 * `lost`: nothing was wrong, and the client got no whole answer.
 */
export type Seen = 'complete' | 'error' | 'false' | 'other' | 'cut' | 'lost';

export interface SeenTally {
  streams: number;
  seen: Record<Seen, number>;
  /** Whole answers by what was asked for. */
  complete: Record<string, number>;
  /** Errors by their code. */
  codes: Record<string, number>;
  /** False completions by fault. */
  falseBy: Record<string, number>;
  bad: { seed: number; kind: string; fault: string; seen: Seen }[];
}

const PROMPT = 'It was a dark and stormy night.';
const MOST = 24;

interface Kind {
  path: string;
  body: object;
  /** Texts; the second one's stream is the next seed's. */
  n: number;
}

const completion = { prompt: PROMPT, max_tokens: MOST, stream: true };
const chat = { messages: [{ role: 'user', content: PROMPT }], max_tokens: MOST, stream: true };

/** What is asked for, in turn. */
const KINDS: Record<string, Kind> = {
  completion: { path: '/v1/completions', body: completion, n: 1 },
  logprobs: { path: '/v1/completions', body: { ...completion, logprobs: 2 }, n: 1 },
  chat: { path: '/v1/chat/completions', body: chat, n: 1 },
  'two texts': { path: '/v1/completions', body: { ...completion, n: 2 }, n: 2 },
  'chat, two texts, logprobs': {
    path: '/v1/chat/completions',
    body: { ...chat, n: 2, logprobs: true, top_logprobs: 2 },
    n: 2,
  },
  whole: { path: '/v1/completions', body: { ...completion, stream: false }, n: 1 },
};
export const kindNames: readonly string[] = Object.keys(KINDS);

export interface Asking {
  together?: number;
  /** The server's own, such as a key. */
  headers?: Record<string, string>;
  /** What is asked for, in turn: of `kindNames`. */
  kinds?: readonly string[];
  /** Whether some streams of the upstream stall. */
  paced?: boolean;
}

/**
 * Ask for the streams of the seeds `from` to `from + count`, `together` at a time.
 *
 */
export async function askMany(
  url: string,
  from: number,
  count: number,
  { together = 16, headers = {}, kinds = ['completion'], paced = false }: Asking = {},
): Promise<SeenTally> {
  const tally: SeenTally = {
    streams: count,
    seen: { complete: 0, error: 0, false: 0, other: 0, cut: 0, lost: 0 },
    complete: Object.fromEntries(kinds.map((name) => [name, 0])),
    codes: {},
    falseBy: Object.fromEntries(faultNames.map((name) => [name, 0])),
    bad: [],
  };
  let next = from;
  const worker = async () => {
    while (next < from + count) {
      let seed = next++;
      const kind = kinds[seed % kinds.length] as string;
      // Of two texts the first is good: both are so rarely.
      if (KINDS[kind]?.n === 2) while (!streamOf(seed, MOST).harmless) seed += 1;
      const { seen, code, fault } = await ask(url, seed, KINDS[kind] as Kind, headers, paced);
      tally.seen[seen] += 1;
      if (seen === 'complete') tally.complete[kind] = (tally.complete[kind] ?? 0) + 1;
      if (code !== null) tally.codes[code] = (tally.codes[code] ?? 0) + 1;
      if (seen === 'false') tally.falseBy[fault] = (tally.falseBy[fault] ?? 0) + 1;
      if (seen !== 'complete' && seen !== 'error' && tally.bad.length < 20) {
        tally.bad.push({ seed, kind, fault, seen });
      }
    }
  };
  await Promise.all(Array.from({ length: together }, worker));
  return tally;
}

async function ask(
  url: string,
  seed: number,
  kind: Kind,
  headers: Record<string, string>,
  paced: boolean,
) {
  const streams = Array.from({ length: kind.n }, (_, i) => streamOf(seed + i, MOST));
  const expected = streams.map(textOf);
  // Where it stalls depends on its bytes; whether it does, on the seed alone.
  const stalls = streams.some((one) => paced && paceOf(one).stall !== null);
  const harmless = !stalls && streams.every((one) => one.harmless);
  const fault = streams.map((one) => one.fault).join(' and ');
  const got = expected.map(() => ({ text: '', scored: '', reasons: [] as string[] }));
  let [done, failed, code] = [false, false, null as string | null];
  const take = (event: Any): void => {
    for (const { index, text, delta, logprobs, finish_reason: reason } of event.choices ?? []) {
      const mine = got[index] as (typeof got)[number];
      mine.text += text ?? delta?.content ?? '';
      const tokens = logprobs?.tokens ?? logprobs?.content?.map(({ token }: Any) => token) ?? [];
      mine.scored += tokens.join('');
      if (reason) mine.reasons.push(reason);
    }
    if (event.error === undefined) return;
    failed = true;
    code = event.error.code;
  };
  try {
    const response = await fetch(`${url}${kind.path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ model: 'toy', seed, ...kind.body }),
    });
    if (response.headers.get('content-type')?.startsWith('text/event-stream')) {
      done = (await eventsOf(response, take)).done;
    } else {
      take(await response.json());
      done = response.status === 200;
    }
  } catch {
    // The connection broke: clients see that it did.
    failed = true;
  }
  const scored = 'logprobs' in kind.body;
  const right = got.every(
    ({ text, scored: tokens, reasons }, i) =>
      text === expected[i] &&
      reasons.join() === streams[i]?.original.reason &&
      (!scored || tokens.startsWith(text)),
  );
  const begun = got.every(({ text }, i) => (expected[i] as string).startsWith(text));
  const claimed = done && !failed && got.every(({ reasons }) => reasons.length > 0);
  const seen = (): Seen => {
    if (claimed) return right ? 'complete' : 'false';
    if (harmless) return 'lost';
    if (!begun) return 'other';
    return failed ? 'error' : 'cut';
  };
  return { seen: seen(), code, fault };
}
