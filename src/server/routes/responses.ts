// `/v1/responses`, without anything stored: the conversation comes whole with each request.
import type { Request, Response } from 'express';
import { answer, type Workshop } from '../answers/answer.ts';
import { responseReply } from '../answers/responses.ts';
import { CALL_TOKENS } from '../answers/tool-call-forms.ts';
import { ToolText } from '../answers/tool-calls.ts';
import { checkModel } from '../large/work.ts';
import { needTemplate } from '../prompt/chat.ts';
import { encodePrompt } from '../prompt/tokens.ts';
import { parseBody } from '../requests/parse.ts';
import { chatOf, responseRequest } from '../requests/responses.ts';
import { toolsOf } from '../requests/tools.ts';
import { checkedExtra, common, head, limitOf, noForms, room, type Served } from './completions.ts';

export function responses(served: Served, shop: Workshop) {
  return async (request: Request, response: Response): Promise<void> => {
    const { runner } = shop;
    const body = parseBody(responseRequest, request.body);
    checkModel(body.model, served.model);
    const chat = chatOf(body);
    const tools = toolsOf(chat);
    if (tools.format !== null && !runner.holdsForms) throw noForms('tool_choice', runner);
    const text = await needTemplate(served.template).render(
      chat.messages,
      tools.shown,
      chat.chat_template_kwargs,
    );
    const prompt = await encodePrompt(
      text,
      shop.tokenizer,
      shop.source.contract,
      limitOf(served, shop),
    );
    const most = body.max_output_tokens;
    const limit = limitOf(served, shop);
    const maxTokens = room(
      prompt.length,
      most,
      'input',
      'max_output_tokens',
      limit,
      served.maxCompletion,
    );
    const extra = checkedExtra(chat, runner, 'text.format');
    if (tools.format) extra.response_format = tools.format;
    const { mode } = tools;
    const { model, created, system_fingerprint: fingerprint } = head('resp', served, shop);
    const reply = responseReply({ model, created, fingerprint }, body, mode && new ToolText(mode));
    const job = common(chat, extra, null, 1);
    const keep = mode?.kind === 'free' ? { keep: CALL_TOKENS } : {};
    const run = { ...job.run, ...keep, prompt, maxTokens, followed: true };
    const none = { echo: null, sources: null };
    await answer(request, response, { ...job, ...none, reply, runs: [run] }, shop);
  };
}
