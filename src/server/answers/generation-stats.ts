// Counts one generation for `usage`, metrics and the log.
import type { Response } from 'express';
import type { SessionMemory } from '../../engines/engine.ts';
import type { Run, RunEvent } from '../../engines/runner.ts';
import type { Account } from '../limits/accounts.ts';
import { headOf } from '../limits/deadline.ts';
import { backgroundOf } from '../limits/ticket.ts';
import type { Outcome } from '../metrics.ts';
import { OpenSegments, SegmentLog } from '../segment-log.ts';
import { enterStages, type Stages } from '../stages.ts';
import { MEMORY_PARTS, type Tag } from '../timings.ts';
import { type Job, type ModelContext, promptTokens } from './job.ts';
import type { Usage } from './response-format.ts';
import type { Trace } from './trace.ts';

/** Between two looks at a session's memory, tokens. */
const MEMORY_EVERY = 32;

export class GenerationStats {
  readonly #context: ModelContext;
  readonly #account: Account;
  readonly #tag: Tag;
  /** Somebody waits: what takes how long is measured. */
  readonly #timed: boolean;
  /** When its segments ran is written down: that shows here, and somebody traces it. */
  readonly #traced: boolean;
  readonly #stages: Stages;
  /** `performance.now()` of the request's head. */
  readonly #arrived: number;
  /** When each choice's last token came. */
  readonly #last: number[] = [];
  readonly #segments: OpenSegments;
  /** Tokens of prompts that came from the prefix cache. */
  #cached = 0;
  #memoryIn = 0;
  #outcome: Outcome | null = null;
  /** The most that was seen of each part. */
  #most: SessionMemory | null = null;
  /** The session's, once there is one. */
  memory: Run['memory'] | null = null;

  /** From now on it waits for a slot. */
  constructor(job: Job, context: ModelContext, response: Response, account: Account) {
    this.#context = context;
    this.#account = account;
    this.#arrived = headOf(response);
    const { requestId = '' } = response.locals as { requestId?: string };
    this.#tag = { requestId, model: context.model };
    this.#timed = backgroundOf(response) === undefined;
    this.#stages = enterStages(response, promptTokens(job));
    this.#segments = new OpenSegments(job.runs[0].extra?.n ?? 1);
    this.#traced = response.locals['traced'] === true && context.runner.stepped;
  }

  /** It has a slot. */
  admitted(): void {
    const admitted = performance.now();
    this.#stages.admitted = admitted;
    if (this.#traced) this.#stages.segments = new SegmentLog(admitted);
    this.#account.begin();
    this.#waited();
  }

  /** How long it waited, whether or not it got a slot. */
  #waited(): void {
    if (!this.#timed) return;
    const seconds = (performance.now() - this.#stages.entered) / 1000;
    this.#context.metrics.timings.waited(this.#tag, seconds);
  }

  get usage(): Usage {
    const { prompt, completion } = this.#stages;
    return {
      prompt_tokens: prompt,
      completion_tokens: completion,
      total_tokens: prompt + completion,
      ...(this.#context.runner.prefixCache === undefined
        ? {}
        : { prompt_tokens_details: { cached_tokens: this.#cached } }),
    };
  }

  /** Count an event; gives the session's memory where it was worth asking. */
  async record(event: RunEvent, always = false): Promise<Trace['memory']> {
    const { metrics, model } = this.#context;
    const closed = event.type === 'ran' ? this.#segments.take(event) : null;
    this.#stages.segments?.see(event, closed, this.#stages.first);
    if (event.type === 'token') {
      const now = performance.now();
      const last = this.#last[event.choice];
      if (last !== undefined && this.#timed) metrics.timings.next(this.#tag, (now - last) / 1000);
      if (last === undefined && this.#stages.first === undefined) this.#began(now);
      this.#last[event.choice] = now;
      this.#stages.completion += 1;
      metrics.tokens.inc({ model, kind: 'completion' });
      this.#account.wrote(1);
    }
    if (event.type !== 'ran') return null;
    const kind = event.cached ? 'cached' : 'prompt';
    if (event.prompt) metrics.tokens.inc({ model, kind }, event.tokens.length);
    if (event.cached) this.#cached += event.tokens.length;
    if (closed !== null && !event.cached) {
      metrics.segments.inc({ model });
      metrics.segmentTokens.observe({ model }, closed.end - closed.first);
    }
    this.#memoryIn -= event.tokens.length;
    if (!always && closed === null && this.#memoryIn > 0) return null;
    this.#memoryIn = MEMORY_EVERY;
    const memory = (await this.memory?.()) ?? null;
    metrics.setSessionMemory(this, model, memory);
    if (memory !== null) this.#most = larger(this.#most, memory);
    return memory;
  }

  #began(now: number): void {
    this.#stages.first = now;
    if (!this.#timed) return;
    const admitted = this.#stages.admitted ?? this.#arrived;
    const { timings } = this.#context.metrics;
    timings.began(this.#tag, (now - this.#arrived) / 1000, (now - admitted) / 1000);
  }

  /** Only the first outcome counts. One that never had a slot generated nothing. */
  end(outcome: Outcome): void {
    if (this.#outcome !== null) return;
    this.#outcome = outcome;
    const { prompt, completion, admitted, first } = this.#stages;
    if (admitted === undefined) this.#waited();
    const { metrics, model } = this.#context;
    metrics.setSessionMemory(this, model, null);
    if (admitted === undefined) return;
    metrics.generations.inc({ model, outcome });
    this.#stages.outcome = outcome;
    if (!this.#timed) return;
    metrics.timings.ended(this.#tag, {
      decode: first === undefined ? null : (performance.now() - first) / 1000,
      prompt,
      completion,
      cached: this.#cached,
      memory: this.#most,
    });
  }
}

function larger(one: SessionMemory | null, other: SessionMemory): SessionMemory {
  if (one === null) return other;
  const most = { ...other };
  for (const part of MEMORY_PARTS) most[part] = Math.max(one[part], other[part]);
  return most;
}
