// What one generation is asked for, and what all of them share.
import type { Request, Response } from 'express';
import type { Logger } from 'pino';
import type { Runner, RunRequest } from '../../engines/runner.ts';
import type { PlannerSource } from '../../planner/index.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { Encoder } from '../large/tokenizer.ts';
import type { Accounts } from '../limits/accounts.ts';
import type { AdmissionQueue } from '../limits/admission-queue.ts';
import type { Timeouts } from '../limits/deadline.ts';
import type { Metrics } from '../metrics.ts';
import type { EventFormat, ResponseFormat } from './response-format.ts';
import type { SourcesRequest } from './sources.ts';
import type { EventStreamOptions } from './sse.ts';

/** What the generations of one model share. */
export interface ModelContext {
  /** The model's name. */
  model: string;
  runner: Runner;
  tokenizer: Tokenizer;
  /** Makes ids of a request's texts; long ones wait for a thread in the request's turn. */
  encoder(request: Request, response: Response): Encoder;
  source: PlannerSource;
  queue: AdmissionQueue;
  /** What callers have used, and what they may use. */
  accounts: Accounts;
  metrics: Metrics;
  log: Logger;
  /** Aborts when the time of running generations is over: the server ends. */
  closing: AbortSignal;
  stream: EventStreamOptions;
  timeouts: Timeouts;
}

export interface Job {
  /** One for each prompt of the request, alike but for that. */
  runs: readonly [RunRequest, ...RunRequest[]];
  /** Texts of the prompts, where the answer begins with them; null for token ids. */
  echo: readonly (string | null)[] | null;
  format: ResponseFormat | EventFormat;
  stream: boolean;
  includeUsage: boolean;
  trace: boolean;
  /** What to tell sources by; null: they are not wanted. */
  sources: SourcesRequest | null;
}

/** Tokens of all prompts of a request. */
export function promptTokens({ runs }: Job): number {
  return runs.reduce((sum, run) => sum + run.prompt.length, 0);
}
