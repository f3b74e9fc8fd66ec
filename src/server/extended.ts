// Request fields that only an extended runner (vLLM) understands, beside those of requests.ts.
import { z } from 'zod';
import type { ExtraRequest } from '../engines/runner.ts';
import { invalid } from './errors.ts';
import { chatFields, checkChat, completionRequest, message } from './requests.ts';
import type { ToolMode } from './tools.ts';

/** As many texts as one request may ask for. */
const MOST_CHOICES = 128;
/** As many tools as one request may bring. */
const MOST_TOOLS = 128;

const schema = z.record(z.string(), z.unknown());

const sampling = {
  n: z.int().min(1).max(MOST_CHOICES).default(1),
  presence_penalty: z.number().min(-2).max(2).optional(),
  frequency_penalty: z.number().min(-2).max(2).optional(),
  repetition_penalty: z.number().gt(0).max(2).optional(),
  top_k: z.int().min(-1).optional(),
  min_p: z.number().min(0).max(1).optional(),
  min_tokens: z.int().min(0).optional(),
  ignore_eos: z.boolean().optional(),
  logit_bias: z
    .record(z.string().regex(/^\d+$/, 'expected token ids as keys'), z.number().min(-100).max(100))
    .optional(),
  response_format: z
    .discriminatedUnion('type', [
      z.strictObject({ type: z.literal('text') }),
      z.strictObject({ type: z.literal('json_object') }),
      z.strictObject({
        type: z.literal('json_schema'),
        json_schema: z.strictObject({
          name: z.string(),
          description: z.string().optional(),
          schema,
          strict: z.boolean().nullable().optional(),
        }),
      }),
    ])
    .optional(),
};

export const extendedCompletion = completionRequest.extend(sampling);

const toolCall = z.strictObject({
  id: z.string(),
  type: z.literal('function'),
  function: z.strictObject({ name: z.string(), arguments: z.string() }),
  index: z.int().optional(),
});

const extendedMessage = z.union([
  z.strictObject({
    role: z.literal('assistant'),
    content: z.string().nullable().optional(),
    tool_calls: z.array(toolCall).min(1),
    refusal: z.null().optional(),
    annotations: z.array(z.never()).optional(),
  }),
  z.strictObject({ role: z.literal('tool'), content: z.string(), tool_call_id: z.string() }),
  message,
]);

const tool = z.strictObject({
  type: z.literal('function'),
  function: z.strictObject({
    name: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'expected letters, digits, _ and -'),
    description: z.string().optional(),
    parameters: schema.optional(),
    strict: z.boolean().nullable().optional(),
  }),
});

const named = z.strictObject({
  type: z.literal('function'),
  function: z.strictObject({ name: z.string() }),
});

/** Which schema a message is judged by: the error then names the field that is wrong in it. */
const messages = z
  .array(
    z.unknown().transform((value, context): ExtendedMessage => {
      const given = value as { role?: unknown; tool_calls?: unknown } | null;
      const [calls, answer, plain] = extendedMessage.options;
      const by = given?.role === 'tool' ? answer : given?.tool_calls !== undefined ? calls : plain;
      const parsed = by.safeParse(value);
      if (parsed.success) return parsed.data as ExtendedMessage;
      for (const issue of parsed.error.issues) {
        context.addIssue(issue as Parameters<typeof context.addIssue>[0]);
      }
      return z.NEVER;
    }),
  )
  .min(1);

/** A message as chat templates take it. */
export type ExtendedMessage = {
  role: string;
  content?: string | null;
  tool_calls?: z.infer<typeof toolCall>[];
  tool_call_id?: string;
};

export const extendedChat = z
  .strictObject({
    ...chatFields,
    ...sampling,
    messages,
    tools: z.array(tool).max(MOST_TOOLS).optional(),
    tool_choice: z.union([z.enum(['none', 'auto', 'required']), named]).optional(),
    parallel_tool_calls: z.boolean().optional(),
  })
  .superRefine(checkChat);
export type ExtendedChat = z.infer<typeof extendedChat>;

/** The fields of a request that go to the engine as they are. */
export function extraOf(body: { [K in keyof typeof sampling]?: unknown }): ExtraRequest {
  const extra: Record<string, unknown> = {};
  for (const name of Object.keys(sampling) as (keyof typeof sampling)[]) {
    if (body[name] !== undefined) extra[name] = body[name];
  }
  const format = extra['response_format'] as { type?: string } | undefined;
  if (format?.type === 'text') delete extra['response_format'];
  return extra;
}

export interface ToolsAsked {
  /** What the chat template is told of; null: none. */
  shown: readonly object[] | null;
  mode: ToolMode | null;
  /** What the text is held to, where a call is demanded. */
  format: object | null;
}

/**
 * What tools a chat request brings and what is to be done with them.
 *
 * @throws HttpError 400 for a choice without tools, an unknown name, a call and a form both demanded
 */
export function toolsOf(body: ExtendedChat): ToolsAsked {
  const tools = body.tools ?? [];
  const choice = body.tool_choice ?? (tools.length > 0 ? 'auto' : 'none');
  if (tools.length === 0) {
    const without = (field: string) =>
      invalid(field, `\`${field}\`: expected \`tools\` beside it.`);
    if (choice !== 'none') throw without('tool_choice');
    if (body.parallel_tool_calls !== undefined) throw without('parallel_tool_calls');
    return { shown: null, mode: null, format: null };
  }
  const names = tools.map((one) => one.function.name);
  const twice = names.findIndex((name, i) => names.indexOf(name) < i);
  if (twice >= 0) {
    throw invalid(
      `tools[${twice}].function.name`,
      `\`tools[${twice}].function.name\`: expected a name of its own, got \`${names[twice]}\` again.`,
    );
  }
  if (choice === 'none') return { shown: tools, mode: null, format: null };
  const single = body.parallel_tool_calls === false;
  if (choice === 'auto') {
    return { shown: tools, mode: { kind: 'free', names, single }, format: null };
  }
  if (body.response_format !== undefined && body.response_format.type !== 'text') {
    throw invalid(
      'response_format',
      '`response_format`: expected none beside a `tool_choice` that demands a call.',
    );
  }
  const anything = { type: 'object' };
  if (choice === 'required') {
    const calls = tools.map(({ function: { name, parameters } }) => ({
      type: 'object',
      properties: { name: { const: name }, arguments: parameters ?? anything },
      required: ['name', 'arguments'],
      additionalProperties: false,
    }));
    const most = single ? { maxItems: 1 } : {};
    return {
      shown: tools,
      mode: { kind: 'list' },
      format: held({ type: 'array', minItems: 1, ...most, items: { anyOf: calls } }),
    };
  }
  const one = tools.find((other) => other.function.name === choice.function.name);
  if (one === undefined) {
    throw invalid(
      'tool_choice.function.name',
      `\`tool_choice.function.name\`: expected one of ${names.join(', ')}, got another.`,
    );
  }
  return {
    shown: tools,
    mode: { kind: 'one', name: one.function.name },
    format: held(one.function.parameters ?? anything),
  };
}

function held(schema: object): object {
  return { type: 'json_schema', json_schema: { name: 'call', schema } };
}
