// Where a request's time goes, and what one generation takes: histograms whose exemplars name a request.
import type { Registry } from 'prom-client';
import type { SessionMemory } from '../engines/engine.ts';
import { type ExemplarHistogram, exemplarHistogram, withExemplar } from './exemplars.ts';

export const MEMORY_PARTS = ['sinks', 'carry', 'pool', 'retrieved', 'open'] as const;

const SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300];
/** Bounds of histograms of tokens. */
export const TOKENS = [0, 16, 64, 256, 1024, 4096, 8192, 16_384, 32_768, 131_072];
const BYTES = [10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32].map((power) => 2 ** power);

/** Which request it is, and for which model. */
export interface Tag {
  requestId: string;
  model: string;
}

/** What a generation that had a slot came to. */
export interface GenerationTotals {
  /** Seconds from the first token to the end; null: there was none. */
  decode: number | null;
  prompt: number;
  completion: number;
  /** Tokens of the prompt that came from the prefix cache. */
  cached: number;
  /** The most that it was seen to hold, where the engine tells. */
  memory: SessionMemory | null;
}

type OfModel<T extends string = never> = ExemplarHistogram<'model' | T>;

export class Timings {
  readonly #queue: OfModel;
  readonly #first: OfModel;
  readonly #prefill: OfModel;
  readonly #decode: OfModel;
  readonly #prompt: OfModel;
  readonly #completion: OfModel;
  readonly #cached: OfModel;
  readonly #bytes: OfModel<'part'>;
  readonly #interToken: OfModel;

  constructor(registry: Registry) {
    const histogram = <T extends string = never>(
      name: string,
      help: string,
      buckets: number[],
      more: T[] = [],
    ): OfModel<T> =>
      exemplarHistogram<'model' | T>(registry, name, help, buckets, ['model', ...more]);
    this.#queue = histogram(
      'lockstep_queue_seconds',
      'Seconds that a generation waited for a slot.',
      [0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300],
    );
    this.#first = histogram(
      'lockstep_time_to_first_token_seconds',
      'Seconds from the head of the request to the first token, the queue included.',
      SECONDS,
    );
    this.#prefill = histogram(
      'lockstep_prefill_seconds',
      'Seconds from a slot in the engine to the first token.',
      SECONDS,
    );
    this.#decode = histogram(
      'lockstep_decode_seconds',
      'Seconds from the first token to the end of the generation.',
      SECONDS,
    );
    this.#prompt = histogram('lockstep_prompt_tokens', 'Tokens of a request’s prompts.', TOKENS);
    this.#completion = histogram(
      'lockstep_completion_tokens',
      'Tokens that a generation wrote.',
      TOKENS,
    );
    this.#cached = histogram(
      'lockstep_prompt_cached_tokens',
      'Tokens of a request’s prompts that came from the prefix cache and did not run.',
      TOKENS,
    );
    this.#bytes = histogram(
      'lockstep_generation_bytes',
      'Most bytes that a generation was seen to hold, by part.',
      BYTES,
      ['part'],
    );
    this.#interToken = histogram(
      'lockstep_inter_token_seconds',
      'Seconds between two generated tokens.',
      [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
    );
  }

  /** A model is served: its histograms are there before its first request. */
  begin(model: string): void {
    const all = [this.#queue, this.#first, this.#prefill, this.#decode];
    const counts = [this.#prompt, this.#completion, this.#cached];
    for (const one of [...all, ...counts, this.#interToken]) one.zero({ model });
  }

  /** It has waited so long for a slot: until it got one, or until it left without one. */
  waited(tag: Tag, seconds: number): void {
    this.#queue.observe(tagged(tag, seconds));
  }

  /** Its first token is there. Seconds since the request's head, and since it got its slot. */
  began(tag: Tag, sinceHead: number, sinceSlot: number): void {
    this.#first.observe(tagged(tag, sinceHead));
    this.#prefill.observe(tagged(tag, sinceSlot));
  }

  /** Another token came, so many seconds after the one before it. */
  next(tag: Tag, seconds: number): void {
    this.#interToken.observe(tagged(tag, seconds));
  }

  /** It has ended. */
  ended(tag: Tag, { decode, prompt, completion, cached, memory }: GenerationTotals): void {
    this.#prompt.observe(tagged(tag, prompt));
    this.#cached.observe(tagged(tag, cached));
    this.#completion.observe(tagged(tag, completion));
    if (decode !== null) this.#decode.observe(tagged(tag, decode));
    if (memory === null) return;
    for (const part of MEMORY_PARTS) {
      this.#bytes.observe(withExemplar(tag.requestId, { model: tag.model, part }, memory[part]));
    }
  }
}

function tagged({ requestId, model }: Tag, value: number) {
  return withExemplar(requestId, { model }, value);
}
