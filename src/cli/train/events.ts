// What a training job reports (python/lockstep/training/loop.py), and how a run ends.
import type { JobEvent } from '../../bridge/job.ts';

export interface StartEvent extends JobEvent {
  event: 'start';
  mode: 'segmented' | 'full';
  model: string;
  out: string;
  parameters: number;
  trainable: number;
  processes: number;
  documents: number;
  tokens: number;
  skipped: { path: string; reason: string }[];
  read: ReadSummary;
  /** Steps done before this run (on --resume). */
  step: number;
  steps: number | null;
  minutes: number | null;
  /** Rows [step, tokens, seconds, loss, learning rate, gradient norm] of the steps already done. */
  curve: number[][];
}

/** How the texts were read. */
export interface ReadSummary {
  /** Files by the format of their rows. */
  formats: Partial<Record<'text' | 'messages' | 'prompt-completion' | 'preference', number>>;
  /** Which targets of conversations count; null without conversations, and for preferences. */
  loss: 'assistant' | 'last' | 'all' | null;
  /** Text of the token that ends documents, or null. */
  end: string | null;
  /** Tokens of conversations, and how many of them count. */
  tokens: number;
  targets: number;
}

/** Of a training on preferences: how far the better answers stand above the others. */
export interface PreferenceMetrics {
  /** Mean of beta times the gain of the better answer's log-probability over the other's. */
  margin?: number;
  /** Share of the rows whose margin is above 0. */
  accuracy?: number;
}

export interface StepEvent extends JobEvent, PreferenceMetrics {
  event: 'step';
  step: number;
  steps: number | null;
  /** Nats a token; a row, of a training on preferences. */
  loss: number;
  learningRate: number;
  gradientNorm: number;
  /** Tokens trained on so far. */
  tokens: number;
  tokensPerSecond: number;
  /** Resident memory of the job, bytes. */
  memory: number;
  /** Seconds spent in steps. */
  seconds: number;
  /** Share of the budget, 0..1. */
  progress: number;
  eta: number | null;
}

export interface ScoreEvent extends JobEvent, PreferenceMetrics {
  event: 'score';
  when: 'before' | 'during' | 'after';
  step: number;
  /** Nats a token, run as it is trained; nats a row, of a training on preferences. */
  loss: number;
  /** Tokens, or rows. */
  targets: number;
  /** Run segmented and with full attention; both only with `validateEvery`. */
  segmented?: number;
  full?: number;
}

/** Texts are being read: before the first step, at most once a second. */
export interface DataEvent extends JobEvent {
  event: 'data';
  /** Looking what a file is, tokenizing it, waiting for another process that does, or writing recall documents. */
  stage: 'reading' | 'tokenizing' | 'waiting' | 'writing';
  file: string;
  /** Bytes of the file done, and in all; of recall documents their tokens. */
  done: number;
  total: number;
  documents: number;
  tokens: number;
}

/** A warning for the user; training continues. */
export interface WarningEvent extends JobEvent {
  event: 'warning';
  code:
    | 'LS_TRAIN_SPIKE'
    | 'LS_TRAIN_CHANCE'
    | 'LS_TRAIN_CACHE'
    | 'LS_TRAIN_LOG'
    | 'LS_TRAIN_SHARED'
    | 'LS_TRAIN_WORKER'
    | 'LS_BOS_DIFFERS'
    | `LS_P${string}`;
  step: number;
  message: string;
}

export interface SavedEvent extends JobEvent {
  event: 'saved';
  path: string;
  step: number;
  seconds: number;
}

/** `out` was damaged or missing on --resume: an older checkpoint took its place. */
export interface FallbackEvent extends JobEvent {
  event: 'fallback';
  /** The older checkpoint; it is now at `out`. */
  path: string;
  step: number;
  damaged: { path: string; problems: string[] }[];
  /** Where the damaged `out` is now; null where there was none. */
  aside: string | null;
}

/** `margin` and `accuracy` as `loss`: means over the last tenth of the steps. */
export interface TrainResult extends JobEvent, PreferenceMetrics {
  event: 'result';
  out: string;
  /** True where the training was interrupted before its budget was spent. */
  stopped: boolean;
  step: number;
  steps: number | null;
  tokens: number;
  seconds: number;
  /** Mean loss of the last tenth of the steps, nats per token. */
  loss: number | null;
  scores: { before?: number; after?: number };
  /** Rows [step, segmented, full], nats per token of held-out text. */
  validations: number[][];
  trained: { steps: number; tokens: number } | null;
}

export type TrainEvent =
  | StartEvent
  | DataEvent
  | StepEvent
  | ScoreEvent
  | SavedEvent
  | FallbackEvent
  | WarningEvent;
