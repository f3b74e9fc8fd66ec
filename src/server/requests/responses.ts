// `/v1/responses`: what a request may say, and the chat that it means.
import { z } from 'zod';
import { type ChatRequest, chatRequest, schemaFields } from './completions.ts';
import type { ChatMessage } from './messages.ts';
import { metadata } from './metadata.ts';
import { isWellFormed, kind, parseBody, passOn } from './parse.ts';
import { parsedByClient, withoutNulls } from './sent-back.ts';
import { text } from './text-field.ts';
import { functionFields, MOST_TOOLS } from './tools.ts';

const stateless = 'expected nothing to be stored: send the whole conversation as `input`';
const none = z
  .unknown()
  .refine((value) => value == null, { error: stateless })
  .optional();

const parts = z
  .array(
    z.object({
      type: z.enum(['input_text', 'output_text', 'text']),
      text,
      annotations: z.array(z.never()).nullish(),
      logprobs: z.array(z.never()).nullish(),
    }),
  )
  .transform((list) => list.map((part) => part.text).join(''));

/** A text, or text parts, which are joined. */
const content = z.unknown().transform((value, context): string => {
  if (typeof value === 'string' && isWellFormed(value)) return value;
  const parsed = Array.isArray(value) ? parts.safeParse(value) : undefined;
  if (parsed?.success) return parsed.data;
  context.addIssue({
    code: 'custom',
    message: `expected a text or a list of text parts, got ${kind(value)}`,
    path: parsed?.error.issues[0]?.path ?? [],
  });
  return z.NEVER;
});

/** Fields that an item has when it comes back from an answer. */
const back = { id: z.string().nullish(), status: z.string().nullish() };

const message = z.strictObject({
  ...back,
  type: z.literal('message').optional(),
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content,
});
const call = z.strictObject({
  ...back,
  type: z.literal('function_call'),
  call_id: z.string(),
  name: z.string(),
  arguments: z.string(),
  parsed_arguments: parsedByClient,
});
const output = z.strictObject({
  ...back,
  type: z.literal('function_call_output'),
  call_id: z.string(),
  output: content,
});
const otherItem = z.strictObject({
  type: z.enum(['message', 'function_call', 'function_call_output']),
});
type Item = z.infer<typeof message> | z.infer<typeof call> | z.infer<typeof output>;

/** Which schema an item is judged by: the error then names the field that is wrong in it. */
function judge(value: { type?: unknown; role?: unknown } | null) {
  if (value?.type === 'function_call') return call;
  if (value?.type === 'function_call_output') return output;
  return value?.type === 'message' || value?.type === undefined ? message : otherItem;
}

const item = z.unknown().transform((value, context): Item => {
  const given = withoutNulls(value);
  const parsed = judge(given as Parameters<typeof judge>[0]).safeParse(given);
  return parsed.success ? (parsed.data as Item) : passOn(parsed.error, context);
});

const input = z.unknown().transform((value, context): Item[] => {
  if (typeof value === 'string' && isWellFormed(value)) {
    return [{ role: 'user', content: value }];
  }
  if (!Array.isArray(value) || value.length === 0) {
    const words = `expected a text or a list of at least one item, got ${kind(value)}`;
    context.addIssue({ code: 'custom', message: words });
    return z.NEVER;
  }
  const parsed = z.array(item).safeParse(value);
  return parsed.success ? parsed.data : passOn(parsed.error, context);
});

const tool = z.strictObject({ type: z.literal('function'), ...functionFields });

const format = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
  z.strictObject({ type: z.literal('json_schema'), ...schemaFields }),
]);

export const responseRequest = z.strictObject({
  model: z.string().optional(),
  input,
  instructions: text.optional(),
  max_output_tokens: z.int().min(1).optional(),
  temperature: z.number().min(0).max(2).default(1),
  top_p: z.number().gt(0).max(1).default(1),
  /** Beyond OpenAI's fields. */
  seed: z.int().optional(),
  stream: z.boolean().default(false),
  stream_options: z.strictObject({ include_obfuscation: z.boolean().nullish() }).optional(),
  tools: z.array(tool).max(MOST_TOOLS).default([]),
  tool_choice: z
    .union([
      z.enum(['none', 'auto', 'required']),
      z.strictObject({ type: z.literal('function'), name: z.string() }),
    ])
    .optional(),
  parallel_tool_calls: z.boolean().default(true),
  text: z.strictObject({ format: format.nullish() }).optional(),
  chat_template_kwargs: z.record(z.string(), z.json()).optional(),
  /** The caller's own notes, which come back with the answer. */
  metadata: metadata.optional(),
  user: z.string().optional(),
  safety_identifier: z.string().optional(),
  prompt_cache_key: z.string().optional(),
  store: z
    .unknown()
    .refine((value) => value === false, { error: stateless })
    .optional(),
  previous_response_id: none,
  conversation: none,
  background: z.literal(false).optional(),
  truncation: z.literal('disabled').optional(),
  include: z.array(z.never()).optional(),
  reasoning: z
    .strictObject({ effort: z.null().optional(), summary: z.null().optional() })
    .optional(),
  service_tier: z.enum(['auto', 'default']).optional(),
});
export type ResponseRequest = z.infer<typeof responseRequest>;

/**
 * The chat request that asks for the same.
 *
 * @throws HttpError 400 for variables of the template that the server sets itself
 */
export function chatOf(body: ResponseRequest): ChatRequest {
  const { tool_choice: choice, tools } = body;
  const held = body.text?.format;
  const demanded =
    typeof choice === 'object'
      ? { type: 'function' as const, function: { name: choice.name } }
      : choice;
  return parseBody(chatRequest, {
    messages: messagesOf(body),
    temperature: body.temperature,
    top_p: body.top_p,
    ...(body.seed === undefined ? {} : { seed: body.seed }),
    stream: body.stream,
    ...(demanded === undefined ? {} : { tool_choice: demanded }),
    ...(tools.length === 0
      ? {}
      : {
          tools: tools.map(({ type, ...own }) => ({ type, function: own })),
          parallel_tool_calls: body.parallel_tool_calls,
        }),
    ...(held == null ? {} : { response_format: formatOf(held) }),
    ...(body.chat_template_kwargs === undefined
      ? {}
      : { chat_template_kwargs: body.chat_template_kwargs }),
  });
}

function formatOf(held: z.infer<typeof format>): object {
  if (held.type !== 'json_schema') return held;
  const { type, ...own } = held;
  return { type, json_schema: own };
}

/** Items as messages: calls that follow each other, and the text before them, are one answer. */
function messagesOf({ instructions, input: items }: ResponseRequest): ChatMessage[] {
  const messages: ChatMessage[] = [];
  if (instructions !== undefined) messages.push({ role: 'system', content: instructions });
  for (const one of items) {
    if ('role' in one) {
      messages.push({ role: one.role, content: one.content });
    } else if (one.type === 'function_call_output') {
      messages.push({ role: 'tool', content: one.output, tool_call_id: one.call_id });
    } else {
      const { call_id: id, name, arguments: args } = one;
      const made = { id, type: 'function' as const, function: { name, arguments: args } };
      const last = messages.at(-1);
      if (last?.role === 'assistant') last.tool_calls = [...(last.tool_calls ?? []), made];
      else messages.push({ role: 'assistant', content: null, tool_calls: [made] });
    }
  }
  return messages;
}
