// What the server needs of whatever turns a prompt into tokens: an engine that it steps, or vLLM.
import type { Contract } from '../contract/schema.ts';
import type { EngineInfo, Retrieved, SessionMemory } from './engine.ts';
import type { Alternative, Sampled, SamplingOptions } from './sampling.ts';

/** What a client asked for. */
export interface RunRequest extends SamplingOptions {
  /** At least one id. */
  prompt: ArrayLike<number>;
  /** 0: the prompt runs, and nothing is generated. */
  maxTokens: number;
  /** A text ends before the first of these strings; they may span tokens. */
  stop: readonly string[];
  /** Special tokens, by their texts, that belong to the text; others are left out of it. */
  keepSpecialTokens?: readonly string[];
  /** Alternatives to report a token; null reports none. */
  logprobs: number | null;
  /** The client asked for traces, so every step is reported. */
  traced: boolean;
  /** The answer goes out token by token. */
  streamed: boolean;
  /** The spans of the segments are wanted at the end: `Run.spans`. */
  spans?: boolean;
  /** A turn of a chat: the next one is likely to begin with this prompt and its answer. */
  expectsNextTurn?: boolean;
  /** Nobody waits for it: its steps run only while no other run has any, where the engine is stepped from here. */
  background?: boolean;
  /** How likely each token of the prompt was is wanted: `scores` of its events. */
  scored?: boolean;
  /** More than one freely sampled text. */
  extra?: ExtraRequest;
  /** An adapter to run over the model, by its name (vLLM alone); none: the model itself. */
  adapter?: string;
}

/** Requests beyond one freely sampled text; names and meanings are those of OpenAI and vLLM. */
export interface ExtraRequest {
  /** Texts to generate; 1 unless given. */
  n?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  repetition_penalty?: number;
  top_k?: number;
  min_p?: number;
  min_tokens?: number;
  ignore_eos?: boolean;
  logit_bias?: Record<string, number>;
  /** What the text must be: JSON, or JSON of a schema. */
  response_format?: object;
}

export type RunEvent = {
  /** Which of the texts this is about. */
  choice: number;
} & (
  | {
      type: 'ran';
      /** They are the prompt's. */
      prompt: boolean;
      from: number;
      tokens: Int32Array;
      /** Of each of them where that was asked for; null for the sequence's first. */
      scores?: readonly (Sampled | null)[];
      /** They came from the prefix cache and did not run again. */
      cached?: boolean;
      /** Set where the segment ended with these tokens; `retrieved` null: the engine does not tell. */
      boundary: { at: number; retrieved: Retrieved[] | null } | null;
    }
  | ({ type: 'token'; text: string; top: Alternative[] } & Alternative)
  | { type: 'end'; reason: 'stop' | 'length'; text: string }
);

export interface Run {
  /** Iterate once: when the iteration ends, everything that the run holds is freed. Without iterating, call `close`. */
  events: AsyncGenerator<RunEvent, void>;
  /** Bytes held now; null: the engine does not tell. */
  memory(): Promise<SessionMemory | null>;
  /** Where the engine itself cut, once the events have ended; null: it does not tell. */
  spans(): SegmentSpans | null;
  /** Free whatever the run holds, also where its events were never begun or are left in the middle. Idempotent. */
  close(): Promise<void>;
}

/** Segments of prompt and answer as half-open ranges of token positions. */
export interface SegmentSpans {
  segments: [number, number][];
  /** The last one, which nothing has closed; null where there is none. */
  open: [number, number] | null;
}

export interface Health {
  ready: boolean;
  /** One or two words: `ready`, `starting`, `restarting`, `engine lost`, ... */
  status: string;
  /** Why it is not ready. */
  error?: Error;
}

export interface Runner {
  readonly info: EngineInfo;
  readonly contract: Contract;
  /** Its engine is stepped from this process: what an event tells of has just happened. */
  readonly stepped: boolean;
  /** Most runs of one request at the same time: 1 where they would only take turns. */
  readonly maxConcurrentRuns: number;
  /** Runs that hold something in the engine now. */
  readonly sessions: number;
  /** Most tokens of a sequence, where the engine has a limit of its own. */
  readonly maxTokens: number | null;
  /** Its prefix cache, where it is one of this process. */
  readonly prefixCache?: PrefixCacheStats | undefined;
  health(): Health;
  /**
   * Begin. The same request on the same state gives the same tokens where `seed` is set or
   * `temperature` is 0.
   *
   * @throws LS_ENGINE_*, LS_POLICY_*, LS_VLLM_*; while iterating too, and the signal's reason
   */
  run(request: RunRequest, signal: AbortSignal): Promise<Run>;
  /** Metrics that only this engine has, for `/metrics` (Prometheus' text) and `/lockstep/engine`. */
  metrics?(): Promise<EngineMetrics>;
  close(): Promise<void>;
}

/** What a prefix cache holds and how it was used. */
export interface PrefixCacheStats {
  /** Bytes held, each once however many states share them. */
  readonly bytes: number;
  /** Most bytes. */
  readonly limit: number;
  readonly states: number;
  /** Prompts that began at a cached state, and prompts that began at none. */
  readonly hits: number;
  readonly misses: number;
  /** States evicted for room. */
  readonly evictions: number;
}

export interface EngineMetrics {
  /** Prometheus' text format. */
  prometheus: string;
  /** The same in short, for the page. */
  summary: object;
}
