// One generation: the prompt segment by segment, then token by token; what happens is told as events.
import type { EngineSession, SessionMemory, StepResult } from '../engines/engine.ts';
import { Sampler } from '../engines/sampling.ts';
import { LockstepError } from '../errors.ts';
import { Segmenter } from '../planner/index.ts';
import type { Workshop } from './answer.ts';
import type { FinishReason, SampledToken } from './reply.ts';

export interface RunRequest {
  prompt: Int32Array;
  maxTokens: number;
  temperature: number;
  topP: number;
  /** Same seed, same tokens; null draws a fresh one. */
  seed: number | null;
  stop: readonly string[];
  /** Alternatives to report a token; null reports none. */
  logprobs: number | null;
  /** Someone looks at every step. */
  watched: boolean;
}

export type RunEvent =
  /** These tokens have run. `prompt`: they are the prompt's. */
  | {
      type: 'ran';
      tokens: ArrayLike<number> & Iterable<number>;
      prompt: boolean;
      boundary: StepResult['boundary'];
      memory(): Promise<SessionMemory>;
    }
  | ({ type: 'token' } & SampledToken)
  /** The end, with text that was held back until it was sure that no stop string begins in it. */
  | { type: 'end'; reason: FinishReason; text: string };

/** Tokens of one step of the prompt. A watched prompt runs in smaller ones, to be seen growing. */
const CHUNK = 512;
const WATCHED_CHUNK = 128;

/**
 * Open a session and give the events of its generation. The session is freed when the iteration ends,
 * however it ends.
 */
export async function run(
  request: RunRequest,
  shop: Workshop,
  signal: AbortSignal,
): Promise<AsyncGenerator<RunEvent>> {
  const session = await shop.engine.open();
  return generate(request, session, shop, signal);
}

async function* generate(
  request: RunRequest,
  session: EngineSession,
  shop: Workshop,
  signal: AbortSignal,
): AsyncGenerator<RunEvent> {
  const segmenter = new Segmenter(shop.source);
  // Closing drops a step that waits or runs, so that leaving is noticed before its end.
  const leave = () => void session.close();
  signal.addEventListener('abort', leave, { once: true });
  try {
    const { prompt, watched } = request;
    const chunk = watched ? WATCHED_CHUNK : CHUNK;
    const cuts = segmenter.pushMany(prompt);
    let logits: Float32Array = new Float32Array(0);
    let next = 0;
    const memory = () => session.memory();
    for (let at = 0; at < prompt.length; ) {
      signal.throwIfAborted();
      const cut = cuts[next];
      const end = Math.min(cut ?? prompt.length, at + chunk);
      const tokens = prompt.subarray(at, end);
      const close = end === cut;
      if (close) next += 1;
      const rows = end === prompt.length ? 'last' : 'none';
      const result = await session.step(tokens, { rows, close });
      logits = result.logits;
      at = end;
      yield { type: 'ran', tokens, prompt: true, boundary: result.boundary, memory };
    }
    const sampler = new Sampler(request);
    const decoder = shop.tokenizer.decoder();
    const eos = new Set(shop.tokenizer.eos);
    let held = '';
    for (let count = 0; ; ) {
      signal.throwIfAborted();
      const { id, logprob, top } = sampler.sample(logits);
      if (Number.isNaN(logprob)) throw notNumbers(segmenter.position);
      count += 1;
      const ends = eos.has(id);
      held += ends ? decoder.end() : decoder.push(id);
      const stopped = firstStop(held, request.stop);
      const sure = stopped >= 0 ? stopped : ends ? held.length : sureLength(held, request.stop);
      yield { type: 'token', id, text: held.slice(0, sure), logprob, top };
      held = held.slice(sure);
      if (stopped >= 0) return yield { type: 'end', reason: 'stop', text: '' };
      if (ends) return yield { type: 'end', reason: 'stop', text: '' };
      if (count === request.maxTokens) {
        return yield { type: 'end', reason: 'length', text: held + decoder.end() };
      }
      const close = segmenter.push(id);
      const result = await session.step([id], { rows: 'last', close });
      logits = result.logits;
      yield { type: 'ran', tokens: [id], prompt: false, boundary: result.boundary, memory };
    }
  } finally {
    signal.removeEventListener('abort', leave);
    segmenter.close();
    await session.close();
  }
}

function notNumbers(position: number): LockstepError {
  return new LockstepError(
    'LS_ENGINE_LOGITS',
    `expected finite logits, got NaN after token ${position - 1}`,
    { mend: 'Check the weights: a training may have diverged. lockstep verify says where.' },
  );
}

/** Where the earliest stop string begins, or -1. */
function firstStop(text: string, stops: readonly string[]): number {
  let first = -1;
  for (const stop of stops) {
    const at = text.indexOf(stop);
    if (at >= 0 && (first < 0 || at < first)) first = at;
  }
  return first;
}

/** How much of `text` no stop string can begin in any more. */
function sureLength(text: string, stops: readonly string[]): number {
  let sure = text.length;
  for (const stop of stops) {
    for (let size = Math.min(stop.length - 1, text.length); size > 0; size--) {
      if (stop.startsWith(text.slice(text.length - size))) {
        sure = Math.min(sure, text.length - size);
        break;
      }
    }
  }
  return sure;
}
