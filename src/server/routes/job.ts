// What the routes that generate share: limits, checks, and the part of a job that is alike in all of them.
import { randomUUID } from 'node:crypto';
import type { ExtraRequest, Runner, RunRequest } from '../../engines/runner.ts';
import type { Job, ModelContext } from '../answers/answer.ts';
import type { ResponseHead } from '../answers/response-format.ts';
import { invalid } from '../errors.ts';
import type { ChatTemplate } from '../prompt/chat.ts';
import { type ChatRequest, type CompletionRequest, extraOf } from '../requests/completions.ts';

export interface Served {
  /** The model's name. */
  model: string;
  template: ChatTemplate | null;
  /** Most tokens of a sequence, prompt and completion together. */
  maxTokens: number;
  /** Most tokens of an answer; null: as many as the sequence has room for. */
  maxCompletion: number | null;
}

/** Most tokens of a chat's answer where neither the request nor the server says. */
export const USUAL_COMPLETION = 4096;

/** Most tokens of a sequence: the server's limit or the engine's own, whichever is less. */
export function limitOf(served: Served, context: ModelContext): number {
  return Math.min(served.maxTokens, context.runner.maxTokens ?? served.maxTokens);
}

export function checkedExtra(body: Parameters<typeof extraOf>[0], runner: Runner): ExtraRequest {
  const extra = extraOf(body);
  const { vocabulary } = runner.info;
  const outside = Object.keys(extra.logit_bias ?? {}).find((id) => Number(id) >= vocabulary);
  if (outside === undefined) return extra;
  throw invalid(
    'logit_bias',
    `\`logit_bias\`: expected token ids below ${vocabulary}, got ${outside}.`,
  );
}

export function common(
  body: CompletionRequest | ChatRequest,
  extra: ExtraRequest,
  logprobs: number | null,
  prompts: number,
): Omit<Job, 'format' | 'sources' | 'runs' | 'echo'> & {
  run: Omit<RunRequest, 'prompt' | 'maxTokens'>;
} {
  if (body.stream_options !== undefined && !body.stream) {
    throw invalid('stream_options', '`stream_options` requires `stream: true`.');
  }
  const trace = body.lockstep?.trace ?? false;
  if (trace && !body.stream) {
    throw invalid('lockstep.trace', '`lockstep.trace` requires `stream: true`.');
  }
  const spans = body.lockstep?.segments ?? false;
  if (spans && body.stream) {
    const words =
      '`lockstep.segments` requires `stream: false`. For a stream, use `lockstep.trace`.';
    throw invalid('lockstep.segments', words);
  }
  const asked = Object.entries(body.lockstep ?? {}).find(([, on]) => on)?.[0];
  if (asked !== undefined && (extra.n ?? 1) * prompts > 1) {
    const field = `lockstep.${asked}`;
    throw invalid(field, `\`${field}\` requires one prompt and \`n: 1\`.`);
  }
  return {
    run: {
      temperature: body.temperature,
      topP: body.top_p,
      seed: body.seed ?? null,
      stop: body.stop ?? [],
      logprobs,
      traced: trace,
      streamed: body.stream,
      spans,
      extra,
    },
    stream: body.stream,
    includeUsage: body.stream_options?.include_usage ?? false,
    trace,
  };
}

/** How many tokens may be generated: what was asked for, or all that the session limit leaves. */
export function room(
  prompt: number,
  asked: number | undefined,
  promptField: string,
  maxField: string,
  limit: number,
  most: number | null = null,
): number {
  if (prompt === 0) {
    throw invalid(promptField, `\`${promptField}\`: expected at least one token, got none.`);
  }
  if (prompt >= limit) {
    throw invalid(
      promptField,
      `\`${promptField}\`: expected fewer than ${limit} tokens (the session limit), got ${prompt > limit ? 'at least ' : ''}${prompt}.`,
      'context_length_exceeded',
    );
  }
  if (asked !== undefined && prompt + asked > limit) {
    throw invalid(
      maxField,
      `\`${maxField}\`: expected at most ${limit - prompt} with ${prompt} prompt tokens under the session limit of ${limit}, got ${asked}.`,
      'context_length_exceeded',
    );
  }
  if (asked !== undefined && most !== null && asked > most) {
    throw invalid(
      maxField,
      `\`${maxField}\`: expected at most ${most} (the most tokens of an answer here), got ${asked}.`,
    );
  }
  return asked ?? Math.min(limit - prompt, most ?? USUAL_COMPLETION);
}

export function head(prefix: string, served: Served, context: ModelContext): ResponseHead {
  return {
    id: `${prefix}-${randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model: served.model,
    system_fingerprint: `lockstep-${context.source.contract.digest.slice(0, 16)}`,
  };
}
