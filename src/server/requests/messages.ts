// The messages of a chat request, as clients send them: their own, and answers that come back.
import { z } from 'zod';
import { kind, passOn } from './parse.ts';
import { parsedByClient, withoutNulls } from './sent-back.ts';
import { text } from './text-field.ts';

/** A message as chat templates take it. */
export interface ChatMessage {
  role: string;
  content?: string | null;
  name?: string;
  tool_calls?: z.infer<typeof toolCall>[];
  tool_call_id?: string;
  reasoning_content?: string;
}

/** A hint to Anthropic's cache, which some clients send to everyone. It changes nothing here. */
const cacheControl = z.record(z.string(), z.unknown()).nullish();

const parts = z
  .array(z.strictObject({ type: z.literal('text'), text, cache_control: cacheControl }))
  .min(1)
  .transform((list) => list.map((part) => part.text).join(''));

/** A text, or text parts, which are joined. */
const content = z.unknown().transform((value, context): string => {
  const parsed = (Array.isArray(value) ? parts : text).safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const words = Array.isArray(value)
    ? 'expected text parts {type: "text", text}'
    : typeof value === 'string'
      ? issue?.message
      : `expected a string or a list of text parts, got ${kind(value)}`;
  context.addIssue({ code: 'custom', message: words ?? '', path: issue?.path ?? [] });
  return z.NEVER;
});

const calledFunction = z
  .strictObject({ name: z.string(), arguments: z.string(), parsed_arguments: parsedByClient })
  .transform(({ parsed_arguments: _, ...called }) => called);
const toolCall = z
  .strictObject({
    id: z.string(),
    type: z.literal('function'),
    function: z
      .unknown()
      .transform((one) => withoutNulls(one))
      .pipe(calledFunction),
    /** A call's place in a stream. */
    index: z.int().nullish(),
  })
  .transform(({ index: _, ...call }) => call);
const toolCalls = z
  .array(
    z
      .unknown()
      .transform((one) => withoutNulls(one))
      .pipe(toolCall),
  )
  .min(1);

const common = { name: z.string().nullish(), cache_control: cacheControl };

const asked = z.strictObject({
  ...common,
  role: z.enum(['system', 'developer', 'user']),
  content,
});

/** An answer that a client was given: an SDK writes out what was not in it as null. */
const answered = {
  ...common,
  role: z.literal('assistant'),
  refusal: z.null().optional(),
  annotations: z.array(z.never()).nullish(),
  audio: z.null().optional(),
  function_call: z.null().optional(),
  reasoning_content: z.string().nullish(),
  parsed: parsedByClient,
};
const said = z.strictObject({ ...answered, content, tool_calls: z.array(z.never()).nullish() });
const called = z.strictObject({
  ...answered,
  content: content.nullish(),
  tool_calls: toolCalls,
});

const result = z.strictObject({
  ...common,
  role: z.literal('tool'),
  content,
  tool_call_id: z.string(),
});

const unknownRole = z.strictObject({
  role: z.enum(['system', 'developer', 'user', 'assistant', 'tool']),
});

/** Which schema a message is judged by: the error then names the field that is wrong in it. */
function judge(value: { role?: unknown; tool_calls?: unknown } | null) {
  switch (value?.role) {
    case 'system':
    case 'developer':
    case 'user':
      return asked;
    case 'assistant':
      return Array.isArray(value.tool_calls) && value.tool_calls.length > 0 ? called : said;
    case 'tool':
      return result;
    default:
      return unknownRole;
  }
}

export const message = z.unknown().transform((value, context): ChatMessage => {
  const given =
    (value as { role?: unknown } | null)?.role === 'assistant' ? withoutNulls(value, true) : value;
  const parsed = judge(given as Parameters<typeof judge>[0]).safeParse(given);
  return parsed.success ? shown(parsed.data as Given) : passOn(parsed.error, context);
});

type Given = Partial<Omit<z.infer<typeof called>, 'role'>> & {
  role: string;
  tool_call_id?: string;
};

/** What a template is shown: nothing that is null, nothing that only clients look at. */
function shown(given: Given): ChatMessage {
  const {
    role = '',
    name,
    tool_calls: calls,
    tool_call_id: id,
    reasoning_content: thought,
  } = given;
  return {
    role,
    ...(given.content == null ? {} : { content: given.content }),
    ...(name == null ? {} : { name }),
    ...(calls == null || calls.length === 0 ? {} : { tool_calls: calls }),
    ...(id === undefined ? {} : { tool_call_id: id }),
    ...(thought == null ? {} : { reasoning_content: thought }),
  };
}
