// One generation: the prompt, then token by token, until something says stop.
import { LockstepError } from '../errors.ts';
import { type Sampled, Sampler, type SamplingOptions } from './sampling.ts';
import type { Ran, RunOptions, Sequence } from './sequence.ts';
import { StoppedText, type TextDecoder } from './stops.ts';

export type { TextDecoder };

export interface GenerateRequest extends SamplingOptions, Pick<RunOptions, 'pieceTokens'> {
  /** At least one id. */
  prompt: ArrayLike<number>;
  maxTokens: number;
  /** The generation ends before the first of these strings; they may span tokens. */
  stop?: readonly string[];
  /** The generation ends with one of these ids; its text is not part of the answer. */
  stopIds?: Iterable<number>;
  signal?: AbortSignal | undefined;
}

export type GenerateEvent =
  /** These tokens have run; `prompt`: they are the prompt's. */
  | ({ type: 'ran'; prompt: boolean } & Pick<Ran, 'from' | 'tokens' | 'boundary'>)
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
  const { stop = [], signal } = request;
  const stopIds = new Set(request.stopIds);
  const sampler = new Sampler(request);
  const { pieceTokens } = request;
  const run = { signal, ...(pieceTokens === undefined ? {} : { pieceTokens }) };
  if (request.prompt.length === 0) throw new RangeError('expected a prompt of at least one token');
  const text = new StoppedText(decoder, stop);
  let next: ArrayLike<number> = request.prompt;
  for (let count = 0; count < request.maxTokens; count++) {
    let logits: Float32Array = new Float32Array(0);
    for await (const ran of sequence.run(next, run)) {
      const { from, tokens, boundary } = ran;
      logits = ran.logits;
      yield { type: 'ran', prompt: count === 0, from, tokens, boundary };
    }
    signal?.throwIfAborted();
    const sampled = sampler.sample(logits);
    if (!Number.isFinite(sampled.logprob)) throw notNumbers(sequence.position);
    const ends = stopIds.has(sampled.id);
    const { text: sure, stopped } = ends ? text.end() : text.push(sampled.id);
    yield { type: 'token', text: sure, ...sampled };
    if (ends || stopped) {
      yield { type: 'end', reason: 'stop', text: '' };
      return;
    }
    next = [sampled.id];
  }
  const rest = text.end();
  yield { type: 'end', reason: rest.stopped ? 'stop' : 'length', text: rest.text };
}

function notNumbers(position: number): LockstepError {
  return new LockstepError(
    'LS_ENGINE_LOGITS',
    `expected finite logits, got NaN after token ${position - 1}`,
    { mend: 'Check the weights: a training may have diverged. lockstep verify says where.' },
  );
}
