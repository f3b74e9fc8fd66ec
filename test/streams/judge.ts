// What a reader of vLLM's streams made of a faulty one.
import { readTokens } from '../../src/engines/vllm/completions-stream.ts';
import { LockstepError } from '../../src/errors.ts';
import { type FaultyStream, faultyStream } from './faults.ts';

/** Ids of the streams that `faults.ts` makes are below it. */
const VOCABULARY = 260;

/**
 * `complete`: the reader called the answer complete, and it is what vLLM generated.
 * `refused`: an error of Lockstep's own, after nothing but the answer's beginning.
 * `false`: it called an answer complete that is not what vLLM generated, or passed on other tokens.
 * `lost`: nothing was wrong with the stream, and the reader refused it.
 * `crash`: it failed with anything but an error that the documentation lists.
 */
export type Verdict = 'complete' | 'refused' | 'false' | 'lost' | 'crash';

/** Read one stream with the relay's own parser. */
export async function judge(stream: FaultyStream): Promise<Verdict> {
  const { tokens, reason: expected, prompt } = stream.original;
  const read: number[] = [];
  let ended: string | null = null;
  let error: unknown = null;
  try {
    for await (const { tokens: some, reason } of readTokens(bodyOf(stream), VOCABULARY, prompt)) {
      read.push(...some.map(({ id }) => id));
      ended = reason;
    }
  } catch (cause) {
    error = cause;
  }
  const begins = read.every((id, at) => tokens[at] === id);
  const whole = read.length === tokens.length && ended === expected;
  if (error === null) return begins && whole ? 'complete' : 'false';
  if (!(error instanceof LockstepError && error.code.startsWith('LS_VLLM_'))) return 'crash';
  if (!begins) return 'false';
  return stream.harmless ? 'lost' : 'refused';
}

async function* bodyOf({ packets, broken }: FaultyStream): AsyncGenerator<Uint8Array> {
  yield* packets;
  if (broken) {
    throw new LockstepError('LS_VLLM_DIED', 'expected a whole answer, got a broken connection');
  }
}

export interface Tally {
  streams: number;
  /** By verdict. */
  verdicts: Record<Verdict, number>;
  /** By fault: how many of them came through as complete, and how many there were. */
  faults: Record<string, { complete: number; streams: number }>;
  /** Seeds of the first streams that were judged `false`, `lost` or `crash`. */
  bad: { seed: number; fault: string; verdict: Verdict }[];
}

/** Judge the streams of the seeds `from` to `from + count`. */
export async function judgeMany(
  from: number,
  count: number,
  told: (done: number) => void = () => {},
): Promise<Tally> {
  const tally: Tally = {
    streams: count,
    verdicts: { complete: 0, refused: 0, false: 0, lost: 0, crash: 0 },
    faults: {},
    bad: [],
  };
  for (let seed = from; seed < from + count; seed++) {
    const stream = faultyStream(seed);
    const verdict = await judge(stream);
    tally.verdicts[verdict] += 1;
    tally.faults[stream.fault] ??= { complete: 0, streams: 0 };
    const row = tally.faults[stream.fault] as { complete: number; streams: number };
    row.streams += 1;
    if (verdict === 'complete') row.complete += 1;
    if (verdict !== 'complete' && verdict !== 'refused' && tally.bad.length < 20) {
      tally.bad.push({ seed, fault: stream.fault, verdict });
    }
    if ((seed - from) % 10_000 === 9_999) told(seed - from + 1);
  }
  return tally;
}
