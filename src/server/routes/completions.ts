// `/v1/completions` and `/v1/chat/completions`: from a checked body to a job.
import { randomUUID } from 'node:crypto';
import type { Request, Response } from 'express';
import type { ExtraRequest, Runner, RunRequest } from '../../engines/runner.ts';
import { answer, type Job, type Workshop } from '../answers/answer.ts';
import { chatReply, completionReply, type ReplyHead } from '../answers/reply.ts';
import { CALL_TOKENS } from '../answers/tool-call-forms.ts';
import { ToolText } from '../answers/tool-calls.ts';
import { type HttpError, invalid } from '../errors.ts';
import { checkModel } from '../large/work.ts';
import { type ChatTemplate, needTemplate } from '../prompt/chat.ts';
import { placesOf } from '../prompt/places.ts';
import { checkIds, encodePrompt } from '../prompt/tokens.ts';
import { bodyText } from '../requests/body-text.ts';
import {
  type ChatRequest,
  type CompletionRequest,
  chatRequest,
  completionRequest,
  extraOf,
} from '../requests/completions.ts';
import { parseBody } from '../requests/parse.ts';
import { toolsOf } from '../requests/tools.ts';

export interface Served {
  /** The one model's name. */
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
export function limitOf(served: Served, shop: Workshop): number {
  return Math.min(served.maxTokens, shop.runner.maxTokens ?? served.maxTokens);
}

export function completions(served: Served, shop: Workshop) {
  return async (request: Request, response: Response): Promise<void> => {
    const { tokenizer, source, runner } = shop;
    const body = parseBody(completionRequest, request.body);
    checkModel(body.model, served.model);
    const several = body.prompt.length > 1;
    const logprobs = body.logprobs ?? null;
    const reply = completionReply(head('cmpl', served, shop), tokenizer, logprobs);
    const job = common(body, checkedExtra(body, runner), logprobs, body.prompt.length);
    const runs = await Promise.all(
      body.prompt.map(async (given, i): Promise<RunRequest> => {
        const field = several ? `prompt[${i}]` : 'prompt';
        const prompt =
          typeof given === 'string'
            ? await encodePrompt(given, tokenizer, source.contract, limitOf(served, shop))
            : checkIds(given, field, runner.info.vocabulary);
        const limit = limitOf(served, shop);
        const maxTokens = room(
          prompt.length,
          body.max_tokens,
          field,
          'max_tokens',
          limit,
          served.maxCompletion,
        );
        const scored = body.echo && logprobs !== null;
        return { ...job.run, prompt, maxTokens, scored };
      }),
    );
    const texts = body.prompt.map((one) => (typeof one === 'string' ? one : null));
    const echo = body.echo ? texts : null;
    const sources = body.lockstep?.sources ? { text: texts[0] ?? null, places: [] } : null;
    await answer(request, response, { ...job, sources, reply, echo, runs: atLeastOne(runs) }, shop);
  };
}

export function chatCompletions(served: Served, shop: Workshop) {
  return async (request: Request, response: Response): Promise<void> => {
    const { runner } = shop;
    const body = parseBody(chatRequest, request.body);
    checkModel(body.model, served.model);
    const tools = toolsOf(body);
    if (tools.format !== null && !runner.holdsForms) throw noForms('tool_choice', runner);
    const template = needTemplate(served.template);
    const more = body.chat_template_kwargs;
    const text = await template.render(body.messages, tools.shown, more, bodyText(request));
    const prompt = await encodePrompt(
      text,
      shop.tokenizer,
      shop.source.contract,
      limitOf(served, shop),
    );
    const field = body.max_completion_tokens === undefined ? 'max_tokens' : 'max_completion_tokens';
    const wanted = body.max_completion_tokens ?? body.max_tokens;
    const maxTokens = room(
      prompt.length,
      wanted,
      'messages',
      field,
      limitOf(served, shop),
      served.maxCompletion,
    );
    const logprobs = body.logprobs ? (body.top_logprobs ?? 0) : null;
    const { mode } = tools;
    const reply = chatReply(
      head('chatcmpl', served, shop),
      shop.tokenizer,
      body.logprobs,
      mode && (() => new ToolText(mode)),
    );
    const extra = checkedExtra(body, runner);
    if (tools.format) extra.response_format = tools.format;
    const job = common(body, extra, logprobs, 1);
    const keep = mode?.kind === 'free' ? { keep: CALL_TOKENS } : {};
    const run = { ...job.run, ...keep, prompt, maxTokens, followed: true };
    const wantsSources = body.lockstep?.sources ?? false;
    const places = wantsSources
      ? await placesOf(template, body.messages, tools.shown, text, more)
      : [];
    const sources = wantsSources ? { text, places } : null;
    await answer(request, response, { ...job, sources, reply, echo: null, runs: [run] }, shop);
  };
}

/** @param formField where the request asks for a form */
export function checkedExtra(
  body: Parameters<typeof extraOf>[0],
  runner: Runner,
  formField = 'response_format',
): ExtraRequest {
  const extra = extraOf(body);
  const { vocabulary } = runner.info;
  if (extra.response_format !== undefined && !runner.holdsForms) {
    throw noForms(formField, runner);
  }
  const outside = Object.keys(extra.logit_bias ?? {}).find((id) => Number(id) >= vocabulary);
  if (outside === undefined) return extra;
  throw invalid(
    'logit_bias',
    `\`logit_bias\`: expected token ids below ${vocabulary}, got ${outside}.`,
  );
}

export function noForms(field: string, { info }: Runner): HttpError {
  const words = `\`${field}\` is not supported with this value: the ${info.name} engine holds no text to a form. Leave it out, or serve with --engine vllm.`;
  return invalid(field, words, 'unsupported_parameter');
}

function atLeastOne<T>(list: readonly T[]): readonly [T, ...T[]] {
  return list as readonly [T, ...T[]];
}

export function common(
  body: CompletionRequest | ChatRequest,
  extra: ExtraRequest,
  logprobs: number | null,
  prompts: number,
): Omit<Job, 'reply' | 'sources' | 'runs' | 'echo'> & {
  run: Omit<RunRequest, 'prompt' | 'maxTokens'>;
} {
  if (body.stream_options !== undefined && !body.stream) {
    throw invalid('stream_options', '`stream_options`: expected `stream: true` with it.');
  }
  const trace = body.lockstep?.trace ?? false;
  if (trace && !body.stream) {
    throw invalid('lockstep.trace', '`lockstep.trace`: expected `stream: true` with it.');
  }
  const layout = body.lockstep?.segments ?? false;
  if (layout && body.stream) {
    const words = '`lockstep.segments`: expected `stream: false`; a stream has `lockstep.trace`.';
    throw invalid('lockstep.segments', words);
  }
  const asked = Object.entries(body.lockstep ?? {}).find(([, on]) => on)?.[0];
  if (asked !== undefined && (extra.n ?? 1) * prompts > 1) {
    const field = `lockstep.${asked}`;
    throw invalid(field, `\`${field}\`: expected one prompt and \`n: 1\` with it.`);
  }
  return {
    run: {
      temperature: body.temperature,
      topP: body.top_p,
      seed: body.seed ?? null,
      stop: body.stop ?? [],
      logprobs,
      watched: trace,
      streamed: body.stream,
      layout,
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

export function head(prefix: string, served: Served, shop: Workshop): ReplyHead {
  return {
    id: `${prefix}-${randomUUID()}`,
    created: Math.floor(Date.now() / 1000),
    model: served.model,
    system_fingerprint: `lockstep-${shop.source.contract.digest.slice(0, 16)}`,
  };
}
