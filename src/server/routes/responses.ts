// `/v1/responses`, without anything stored: the conversation comes whole with each request.
import type { Request, Response } from 'express';
import { answer } from '../answers/answer.ts';
import { responseFormat } from '../answers/responses.ts';
import { ToolCallParser } from '../answers/tool-calls.ts';
import type { Models } from '../models/models.ts';
import { parseBody } from '../requests/parse.ts';
import { chatOf, responseRequest } from '../requests/responses.ts';
import { chatPrompt } from './chat-prompt.ts';
import { common, head } from './job.ts';

const fields = { messages: 'input', maxTokens: 'max_output_tokens' };

export function responses(models: Models) {
  return async (request: Request, response: Response): Promise<void> => {
    const body = parseBody(responseRequest, request.body);
    const { served, context } = models.take(body.model, response);
    const chat = chatOf(body);
    const made = await chatPrompt(request, chat, body.max_output_tokens, fields, {
      served,
      context,
      response,
    });
    const { mode } = made.tools;
    const { model, created, system_fingerprint: fingerprint } = head('resp', served, context);
    const format = responseFormat(
      { model, created, fingerprint },
      body,
      mode && new ToolCallParser(mode),
    );
    const job = common(chat, made.extra, null, 1);
    const run = { ...job.run, ...made.run };
    const none = { echo: null, sources: null };
    await answer(request, response, { ...job, ...none, format, runs: [run] }, context);
  };
}
