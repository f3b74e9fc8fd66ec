// What one generation has used and when it came to what, for its line in the logs and its spans in traces.
import type { Response } from 'express';
import type { SegmentLog } from './segment-log.ts';

/** Times in milliseconds of `performance.now()`. */
export interface Stages {
  /** Tokens of all its prompts. */
  readonly prompt: number;
  /** Tokens written so far. */
  completion: number;
  /** It waits for a slot. */
  readonly entered: number;
  /** It got its slot. */
  admitted?: number;
  /** Its first token was written. */
  first?: number;
  /** How it ended, where it had a slot. */
  outcome?: string;
  /** Its segments, where it is traced. */
  segments?: SegmentLog;
}

/** What a request has used so far, for its line in the logs. */
export interface Used {
  prompt_tokens: number;
  completion_tokens: number;
  /** From the check of the key's limits to a slot; absent while it waits. */
  queue_ms?: number;
  /** From the check of the key's limits to the first token, the queue in it. */
  first_token_ms?: number;
  outcome?: string;
}

const kept = new WeakMap<Response, Stages>();

/** A generation begins to wait for its slot; the code that runs it fills in the rest. */
export function enterStages(response: Response, prompt: number): Stages {
  const stages: Stages = { prompt, completion: 0, entered: performance.now() };
  kept.set(response, stages);
  return stages;
}

/** Undefined for a request that generates nothing, or was refused before it could. */
export function stagesOf(response: Response): Stages | undefined {
  return kept.get(response);
}

/** Undefined for a request that generates nothing, or was refused before it could. */
export function usedBy(response: Response): Used | undefined {
  const stages = kept.get(response);
  if (stages === undefined) return undefined;
  const { prompt, completion, entered, admitted, first, outcome } = stages;
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    ...(admitted === undefined ? {} : { queue_ms: Math.round(admitted - entered) }),
    ...(first === undefined ? {} : { first_token_ms: Math.round(first - entered) }),
    ...(outcome === undefined ? {} : { outcome }),
  };
}
