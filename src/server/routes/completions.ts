// `/v1/completions` and `/v1/chat/completions`: from a checked body to a job.
import type { Request, Response } from 'express';
import type { RunRequest } from '../../engines/runner.ts';
import { answer } from '../answers/answer.ts';
import { chatFormat, completionFormat } from '../answers/response-format.ts';
import { ToolCallParser } from '../answers/tool-calls.ts';
import type { Models } from '../models/models.ts';
import { messageSpansOf } from '../prompt/message-spans.ts';
import { checkIds, encodePrompt } from '../prompt/tokens.ts';
import { chatRequest, completionRequest } from '../requests/completions.ts';
import { parseBody } from '../requests/parse.ts';
import { chatPrompt } from './chat-prompt.ts';
import { checkedExtra, common, head, limitOf, room } from './job.ts';

export function completions(models: Models) {
  return async (request: Request, response: Response): Promise<void> => {
    const body = parseBody(completionRequest, request.body);
    const { served, context } = models.take(body.model, response);
    const { tokenizer, source, runner } = context;
    const several = body.prompt.length > 1;
    const logprobs = body.logprobs ?? null;
    const format = completionFormat(head('cmpl', served, context), tokenizer, logprobs);
    const job = common(body, checkedExtra(body, runner), logprobs, body.prompt.length);
    const scored = body.echo && logprobs !== null;
    const encoder = context.encoder(request, response);
    const runs: RunRequest[] = [];
    // One after the other: a request waits for one thread at a time, however many prompts it has.
    for (const [i, given] of body.prompt.entries()) {
      const field = several ? `prompt[${i}]` : 'prompt';
      const limit = limitOf(served, context);
      const prompt =
        typeof given === 'string'
          ? await encodePrompt(given, encoder, source.contract, limit)
          : checkIds(given, field, runner.info.vocabulary);
      const maxTokens = room(
        prompt.length,
        body.max_tokens,
        field,
        'max_tokens',
        limit,
        served.maxCompletion,
      );
      runs.push({ ...job.run, prompt, maxTokens, scored });
    }
    const texts = body.prompt.map((one) => (typeof one === 'string' ? one : null));
    const echo = body.echo ? texts : null;
    const sources = body.lockstep?.sources ? { text: texts[0] ?? null, messageSpans: [] } : null;
    await answer(
      request,
      response,
      { ...job, sources, format, echo, runs: atLeastOne(runs) },
      context,
    );
  };
}

export function chatCompletions(models: Models) {
  return async (request: Request, response: Response): Promise<void> => {
    const body = parseBody(chatRequest, request.body);
    const { served, context } = models.take(body.model, response);
    const fields = {
      messages: 'messages',
      maxTokens: body.max_completion_tokens === undefined ? 'max_tokens' : 'max_completion_tokens',
    };
    const most = body.max_completion_tokens ?? body.max_tokens;
    const made = await chatPrompt(request, body, most, fields, { served, context, response });
    const { mode, shown } = made.tools;
    const logprobs = body.logprobs ? (body.top_logprobs ?? 0) : null;
    const format = chatFormat(
      head('chatcmpl', served, context),
      context.tokenizer,
      body.logprobs,
      mode && (() => new ToolCallParser(mode)),
    );
    const job = common(body, made.extra, logprobs, 1);
    const run = { ...job.run, ...made.run };
    const more = body.chat_template_kwargs;
    const { template, text } = made;
    const sources = body.lockstep?.sources
      ? {
          text,
          messageSpans: await messageSpansOf(template, body.messages, shown, text, more, made.body),
        }
      : null;
    await answer(request, response, { ...job, sources, format, echo: null, runs: [run] }, context);
  };
}

function atLeastOne<T>(list: readonly T[]): readonly [T, ...T[]] {
  return list as readonly [T, ...T[]];
}
