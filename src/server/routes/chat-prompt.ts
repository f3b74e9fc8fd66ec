// From a chat's messages to the prompt that the template makes of it, and what the answer may be.
import type { Request, Response } from 'express';
import type { ExtraRequest, RunRequest } from '../../engines/runner.ts';
import type { ModelContext } from '../answers/answer.ts';
import { CALL_TOKENS } from '../answers/tool-call-formats.ts';
import { type ChatTemplate, needTemplate } from '../prompt/chat.ts';
import { encodePrompt } from '../prompt/tokens.ts';
import { bodyText } from '../requests/body-text.ts';
import type { ChatRequest } from '../requests/completions.ts';
import { type RequestedTools, toolsOf } from '../requests/tools.ts';
import { checkedExtra, limitOf, room, type Served } from './job.ts';

/** A chat as the engine takes it. */
export interface ChatPrompt {
  template: ChatTemplate;
  tools: RequestedTools;
  /** The prompt as the template wrote it. */
  text: string;
  /** The request as it came, from which the template reads numbers exactly. */
  body: string | undefined;
  extra: ExtraRequest;
  run: Pick<RunRequest, 'prompt' | 'maxTokens' | 'keepSpecialTokens' | 'expectsNextTurn'>;
}

/** What the request calls its fields. */
export interface ChatFields {
  messages: string;
  maxTokens: string;
}

/**
 * @param most most tokens to generate; undefined: all that the session limit leaves
 * @throws HttpError 400 for tools, response formats and lengths that cannot be, and what the template refuses
 */
export async function chatPrompt(
  request: Request,
  chat: ChatRequest,
  most: number | undefined,
  fields: ChatFields,
  { served, context, response }: { served: Served; context: ModelContext; response: Response },
): Promise<ChatPrompt> {
  const { runner } = context;
  const tools = toolsOf(chat);
  const template = needTemplate(served.template);
  const body = bodyText(request);
  const text = await template.render(chat.messages, tools.shown, chat.chat_template_kwargs, body);
  const limit = limitOf(served, context);
  const encoder = context.encoder(request, response);
  const prompt = await encodePrompt(text, encoder, context.source.contract, limit);
  const { maxCompletion } = served;
  const maxTokens = room(
    prompt.length,
    most,
    fields.messages,
    fields.maxTokens,
    limit,
    maxCompletion,
  );
  const extra = checkedExtra(chat, runner);
  if (tools.format) extra.response_format = tools.format;
  const keep = tools.mode?.kind === 'free' ? { keepSpecialTokens: CALL_TOKENS } : {};
  return {
    template,
    tools,
    text,
    body,
    extra,
    run: { ...keep, prompt, maxTokens, expectsNextTurn: true },
  };
}
