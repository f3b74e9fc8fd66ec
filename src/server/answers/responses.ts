// The answer of `/v1/responses`: items of output, whole or as the events that build them.
import type { HttpError } from '../errors.ts';
import type { ResponseRequest } from '../requests/responses.ts';
import { bareUuid, OutputItems } from './output-items.ts';
import type { EventFormat, Usage, WholeChoice } from './response-format.ts';
import type { ToolCallParser } from './tool-calls.ts';

export interface ResponseHead {
  model: string;
  /** Seconds since 1970. */
  created: number;
  /** Names the contract. */
  fingerprint: string;
}

/** @param tools finds calls of tools in the text; null where none may be called */
export function responseFormat(
  head: ResponseHead,
  body: ResponseRequest,
  tools: ToolCallParser | null,
): EventFormat {
  const id = `resp_${bareUuid()}`;
  const output = new OutputItems();
  const response = (status: string, usage: Usage | null) =>
    responseObject({ id, ...head }, body, { status, output: output.all, usage });

  function* take(text: string, last: boolean): Generator<object> {
    const said = tools === null ? [{ content: text, calls: [] }] : [tools.push(text)];
    if (tools !== null && last) said.push(tools.end());
    for (const { content, calls } of said) {
      // Spaces around calls are not a text.
      if (output.writing || content.trim() !== '') yield* output.write(content);
      for (const call of calls) yield* output.tell(call);
    }
  }

  function* end(text: string, reason: 'stop' | 'length'): Generator<object> {
    yield* take(text, true);
    yield* output.finish(statusOf(reason));
  }

  return {
    begin: () => [
      output.event('response.created', { response: response('in_progress', null) }),
      output.event('response.in_progress', { response: response('in_progress', null) }),
    ],
    text: (text) => take(text, false),
    end,
    done(reason, usage) {
      const status = statusOf(reason);
      return output.event(`response.${status}`, { response: response(status, usage) });
    },
    failed: ({ message, code, param }: HttpError) =>
      output.event('error', { code, message, param }),
    fullResponse([choice], usage) {
      const { text, reason } = choice as WholeChoice;
      for (const _ of end(text, reason));
      return response(statusOf(reason), usage);
    },
  };
}

function statusOf(reason: 'stop' | 'length'): string {
  return reason === 'stop' ? 'completed' : 'incomplete';
}

function responseObject(
  head: ResponseHead & { id: string },
  body: ResponseRequest,
  { status, output, usage }: { status: string; output: readonly object[]; usage: Usage | null },
): object {
  return {
    id: head.id,
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
  };
}
