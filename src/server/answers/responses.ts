// The answer of `/v1/responses`: items of output, whole or as the events that build them.
import { randomUUID } from 'node:crypto';
import type { HttpError } from '../errors.ts';
import type { ResponseRequest } from '../requests/responses.ts';
import type { EventFormat, Usage, WholeChoice } from './response-format.ts';
import type { ToolCall, ToolCallParser } from './tool-calls.ts';

export interface ResponseHead {
  model: string;
  /** Seconds since 1970. */
  created: number;
  /** Names the contract. */
  fingerprint: string;
}

interface TextItem {
  id: string;
  type: 'message';
  role: 'assistant';
  status: string;
  content: { type: 'output_text'; text: string; annotations: []; logprobs: [] }[];
}
type Item = TextItem | ReturnType<typeof callItem>;

/** @param tools finds calls of tools in the text; null where none may be called */
export function responseFormat(
  head: ResponseHead,
  body: ResponseRequest,
  tools: ToolCallParser | null,
): EventFormat {
  const id = `resp_${bare()}`;
  const output: Item[] = [];
  let numbers = 0;
  /** The item whose text is being written. */
  let open: TextItem | null = null;

  const event = (type: string, rest: object) => ({ type, sequence_number: numbers++, ...rest });
  const place = (item: Item) => ({ item_id: item.id, output_index: output.indexOf(item) });

  const response = (status: string, usage: Usage | null) => ({
    id,
    object: 'response',
    created_at: head.created,
    status,
    error: null,
    incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    instructions: body.instructions ?? null,
    max_output_tokens: body.max_output_tokens ?? null,
    model: head.model,
    output,
    parallel_tool_calls: body.parallel_tool_calls,
    previous_response_id: null,
    reasoning: { effort: null, summary: null },
    store: false,
    temperature: body.temperature,
    text: { format: body.text?.format ?? { type: 'text' } },
    tool_choice: body.tool_choice ?? 'auto',
    tools: body.tools,
    top_p: body.top_p,
    truncation: 'disabled',
    usage: usage && {
      input_tokens: usage.prompt_tokens,
      input_tokens_details: { cached_tokens: usage.prompt_tokens_details?.cached_tokens ?? 0 },
      output_tokens: usage.completion_tokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: usage.total_tokens,
    },
    user: body.user ?? null,
    metadata: body.metadata ?? {},
    system_fingerprint: head.fingerprint,
  });

  function* write(content: string): Generator<object> {
    if (content === '') return;
    if (open === null) {
      open = {
        id: `msg_${bare()}`,
        type: 'message',
        role: 'assistant',
        status: 'in_progress',
        content: [],
      };
      output.push(open);
      yield event('response.output_item.added', {
        output_index: output.length - 1,
        item: { ...open, content: [] },
      });
      open.content.push(textPart());
      yield event('response.content_part.added', {
        ...place(open),
        content_index: 0,
        part: textPart(),
      });
    }
    const part = open.content[0] as TextItem['content'][number];
    part.text += content;
    yield event('response.output_text.delta', {
      ...place(open),
      content_index: 0,
      delta: content,
      logprobs: [],
    });
  }

  function* finish(status: string): Generator<object> {
    const item = open;
    if (item === null) return;
    open = null;
    item.status = status;
    const [part] = item.content;
    const where = { ...place(item), content_index: 0 };
    yield event('response.output_text.done', { ...where, text: part?.text ?? '', logprobs: [] });
    yield event('response.content_part.done', { ...where, part });
    yield event('response.output_item.done', { output_index: where.output_index, item });
  }

  function* tell(call: ToolCall): Generator<object> {
    yield* finish('completed');
    const item = callItem(call);
    output.push(item);
    const output_index = output.length - 1;
    const { arguments: args, name } = call.function;
    yield event('response.output_item.added', {
      output_index,
      item: { ...item, arguments: '', status: 'in_progress' },
    });
    const where = { item_id: item.id, output_index };
    yield event('response.function_call_arguments.delta', { ...where, delta: args });
    yield event('response.function_call_arguments.done', { ...where, name, arguments: args });
    yield event('response.output_item.done', { output_index, item });
  }

  function* take(text: string, last: boolean): Generator<object> {
    const said = tools === null ? [{ content: text, calls: [] }] : [tools.push(text)];
    if (tools !== null && last) said.push(tools.end());
    for (const { content, calls } of said) {
      // Spaces around calls are not a text.
      if (open !== null || content.trim() !== '') yield* write(content);
      for (const call of calls) yield* tell(call);
    }
  }

  function* end(reason: 'stop' | 'length'): Generator<object> {
    yield* finish(reason === 'stop' ? 'completed' : 'incomplete');
  }

  return {
    begin: () => [
      event('response.created', { response: response('in_progress', null) }),
      event('response.in_progress', { response: response('in_progress', null) }),
    ],
    text: (text) => take(text, false),
    *end(text, reason) {
      yield* take(text, true);
      yield* end(reason);
    },
    done(reason, usage) {
      const status = reason === 'stop' ? 'completed' : 'incomplete';
      return event(`response.${status}`, { response: response(status, usage) });
    },
    failed: ({ message, code, param }: HttpError) => event('error', { code, message, param }),
    fullResponse([choice], usage) {
      const { text, reason } = choice as WholeChoice;
      for (const _ of take(text, true));
      for (const _ of end(reason));
      return response(reason === 'stop' ? 'completed' : 'incomplete', usage);
    },
  };
}

function textPart(): TextItem['content'][number] {
  return { type: 'output_text', text: '', annotations: [], logprobs: [] };
}

function callItem({ id, function: { name, arguments: args } }: ToolCall) {
  return {
    id: `fc_${bare()}`,
    type: 'function_call' as const,
    status: 'completed',
    call_id: id,
    name,
    arguments: args,
  };
}

function bare(): string {
  return randomUUID().replaceAll('-', '');
}
