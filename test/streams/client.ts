// What clients of a server see while its vLLM sends faulty streams, over real sockets.
import { eventsOf } from '../server-client.ts';
import { type FaultyStream, faultNames } from './faults.ts';
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
  /** False completions by fault. */
  falseBy: Record<string, number>;
  bad: { seed: number; fault: string; seen: Seen }[];
}

const PROMPT = 'It was a dark and stormy night.';
const MOST = 24;

/**
 * Ask for the streams of the seeds `from` to `from + count`, `together` at a time.
 *
 * @param headers the server's own, such as a key
 */
export async function askMany(
  url: string,
  from: number,
  count: number,
  { together = 16, headers = {} }: { together?: number; headers?: Record<string, string> } = {},
): Promise<SeenTally> {
  const tally: SeenTally = {
    streams: count,
    seen: { complete: 0, error: 0, false: 0, other: 0, cut: 0, lost: 0 },
    falseBy: Object.fromEntries(faultNames.map((name) => [name, 0])),
    bad: [],
  };
  let next = from;
  const worker = async () => {
    while (next < from + count) {
      const seed = next++;
      const stream = streamOf(seed, PROMPT, MOST);
      const seen = await ask(url, seed, stream, headers);
      tally.seen[seen] += 1;
      if (seen === 'false') tally.falseBy[stream.fault] = (tally.falseBy[stream.fault] ?? 0) + 1;
      if (seen !== 'complete' && seen !== 'error' && tally.bad.length < 20) {
        tally.bad.push({ seed, fault: stream.fault, seen });
      }
    }
  };
  await Promise.all(Array.from({ length: together }, worker));
  return tally;
}

async function ask(
  url: string,
  seed: number,
  stream: FaultyStream,
  headers: Record<string, string>,
): Promise<Seen> {
  const expected = textOf(stream);
  const { reason } = stream.original;
  let text = '';
  const reasons: string[] = [];
  let [done, failed] = [false, false];
  try {
    const response = await fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ model: 'toy', prompt: PROMPT, max_tokens: MOST, seed, stream: true }),
    });
    if (response.status !== 200) {
      await response.text();
      return stream.harmless ? 'lost' : 'error';
    }
    const read = await eventsOf(response, (event) => {
      const choice = event.choices?.[0];
      text += choice?.text ?? '';
      if (choice?.finish_reason) reasons.push(choice.finish_reason);
      if (event.error !== undefined) failed = true;
    });
    done = read.done;
  } catch {
    // The connection broke: clients see that it did.
    failed = true;
  }
  const claimed = done && reasons.length > 0 && !failed;
  if (claimed) return text === expected && reasons.join() === reason ? 'complete' : 'false';
  if (stream.harmless) return 'lost';
  if (!expected.startsWith(text)) return 'other';
  return failed ? 'error' : 'cut';
}
