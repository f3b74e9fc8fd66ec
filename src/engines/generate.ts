// One generation: the prompt, then token by token, until something says stop.
import { LockstepError } from '../errors.ts';
import { type LogitsOptions, LogitsProcessor } from './logits-processor.ts';
import { type Sampled, Sampler, type SamplingOptions, scored } from './sampling.ts';
import type { RunOptions, Sequence, StepOutput } from './sequence.ts';
import type { SequenceScheduler } from './step-scheduler.ts';
import { StopStringBuffer, type TextDecoder } from './stop-strings.ts';

export type { TextDecoder };

export interface GenerateRequest
  extends SamplingOptions,
    LogitsOptions,
    Pick<RunOptions, 'pieceTokens'> {
  /** At least one id. */
  prompt: ArrayLike<number>;
  /** 0: the prompt runs, and nothing is generated. */
  maxTokens: number;
  /** The generation ends before the first of these strings; they may span tokens. */
  stop?: readonly string[];
  /** The generation ends with one of these ids; its text is not part of the answer. */
  stopIds?: Iterable<number>;
  /** Tell how likely each token of the prompt was (`logprobs` says with how many alternatives). */
  scored?: boolean | undefined;
  signal?: AbortSignal | undefined;
  /** Says when steps run beside those of other sequences. */
  scheduler?: SequenceScheduler | undefined;
}

export type GenerateEvent =
  /** These tokens have run; `prompt`: they are the prompt's. */
  | ({
      type: 'ran';
      prompt: boolean;
      /** Of each of them, with `scored`; null for the first of all, which follows nothing. */
      scores?: (Sampled | null)[];
    } & Pick<StepOutput, 'from' | 'tokens' | 'boundary'>)
  /** The next token, and the text that is now sure: it may belong to earlier tokens. */
  | ({ type: 'token'; text: string } & Sampled)
  /** The end, with text held back until now. */
  | { type: 'end'; reason: 'stop' | 'length'; text: string };

/**
 * Generate after a prompt. The same request on the same state gives the same tokens where `seed` is set
 * or `temperature` is 0. The last token is not run through the model. The caller closes the sequence.
 *
 * @throws LS_ENGINE_LOGITS for logits that are not numbers; what `Sequence.run` throws; the signal's
 *   reason once it aborts
 */
export async function* generate(
  sequence: Sequence,
  request: GenerateRequest,
  decoder: TextDecoder,
): AsyncGenerator<GenerateEvent, void> {
  const logits = yield* runPrompt(sequence, request.prompt, request);
  yield* runAnswer(sequence, logits, request, decoder);
}

/**
 * Run the prompt's tokens from the sequence's current position.
 *
 * @returns the logits after its last token
 */
export async function* runPrompt(
  sequence: Sequence,
  rest: ArrayLike<number>,
  { prompt, logprobs, scored: scoring = false, signal, pieceTokens, scheduler }: GenerateRequest,
): AsyncGenerator<GenerateEvent & { type: 'ran' }, Float32Array> {
  if (prompt.length === 0) throw new RangeError('expected a prompt of at least one token');
  const pieces = pieceTokens === undefined ? {} : { pieceTokens };
  let logits: Float32Array = new Float32Array(0);
  /** The logits before the next piece. */
  let before: Float32Array | null = null;
  const rows = scoring ? ('all' as const) : ('last' as const);
  for await (const ran of sequence.run(rest, {
    signal,
    rows,
    runStep: scheduler?.prompt,
    ...pieces,
  })) {
    const { from, tokens, boundary } = ran;
    const event = { type: 'ran' as const, prompt: true, from, tokens, boundary };
    logits = ran.logits;
    if (!scoring) {
      yield event;
      continue;
    }
    const size = logits.length / tokens.length;
    const row = (i: number) => ran.logits.subarray(i * size, (i + 1) * size);
    const scores = Array.from(tokens, (id, i) => {
      const after = i === 0 ? before : row(i - 1);
      return after && scored(after, id, logprobs ?? 0);
    });
    logits = before = row(tokens.length - 1).slice();
    yield { ...event, scores };
  }
  return logits;
}

/** Generate from these logits on, which are those after the sequence's last token. */
export async function* runAnswer(
  sequence: Sequence,
  first: Float32Array,
  request: GenerateRequest,
  decoder: TextDecoder,
): AsyncGenerator<GenerateEvent, void> {
  const { stop = [], signal, scheduler } = request;
  const stopIds = new Set(request.stopIds);
  const sampler = new Sampler(request);
  const processor = new LogitsProcessor(request, request.prompt, stopIds);
  const text = new StopStringBuffer(decoder, stop);
  let logits = first;
  for (let count = 0; count < request.maxTokens; count++) {
    signal?.throwIfAborted();
    const sampled = sampler.sample(logits, processor.apply(logits));
    if (!Number.isFinite(sampled.logprob)) throw notNumbers(sequence.position);
    processor.take(sampled.id);
    const ends = stopIds.has(sampled.id);
    const { text: sure, stopped } = ends ? text.end() : text.push(sampled.id);
    yield { type: 'token', text: sure, ...sampled };
    if (ends || stopped) {
      yield { type: 'end', reason: 'stop', text: '' };
      return;
    }
    if (count + 1 === request.maxTokens) break;
    for await (const ran of sequence.run([sampled.id], { signal, runStep: scheduler?.answer })) {
      const { from, tokens, boundary } = ran;
      logits = ran.logits;
      yield { type: 'ran', prompt: false, from, tokens, boundary };
    }
  }
  const rest = text.end();
  yield { type: 'end', reason: rest.stopped ? 'stop' : 'length', text: rest.text };
}

function notNumbers(position: number): LockstepError {
  return new LockstepError(
    'LS_ENGINE_LOGITS',
    `expected finite logits, got NaN after token ${position - 1}`,
    { fix: 'Check the weights: a training may have diverged. lockstep verify shows where.' },
  );
}
