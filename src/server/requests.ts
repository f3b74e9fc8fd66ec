// The request bodies, as strict schemas: a field is understood, or it is refused by its name.
import { z } from 'zod';
import { type HttpError, invalid } from './errors.ts';

const MAX_STOPS = 4;
const ids = z.array(z.int().min(0));

const text = z.string().refine((value) => isWellFormed(value), {
  error: 'expected well-formed Unicode, got a lone surrogate',
});

const stop = z
  .union([text, z.array(text)], { error: 'expected a string or a list of strings' })
  .transform((value) => (typeof value === 'string' ? [value] : value))
  .refine((list) => list.length <= MAX_STOPS, {
    error: `expected at most ${MAX_STOPS} stop strings`,
  })
  .refine((list) => list.every((one) => one.length > 0), {
    error: 'expected non-empty stop strings',
  });

const sampling = {
  model: z.string().optional(),
  temperature: z.number().min(0).max(2).default(1),
  top_p: z.number().gt(0).max(1).default(1),
  seed: z.int().optional(),
  stop: stop.optional(),
  stream: z.boolean().default(false),
  stream_options: z.strictObject({ include_usage: z.boolean().default(false) }).optional(),
  /** Who asks, for the caller's own books. Changes nothing. */
  user: z.string().optional(),
  lockstep: z
    .strictObject({
      trace: z.boolean().default(false),
      segments: z.boolean().default(false),
      sources: z.boolean().default(false),
    })
    .optional(),
};

/** A text, or token ids; also as a list of exactly one of them. */
const prompt = z.unknown().transform((value, context): string | number[] => {
  const fail = (message: string, path: (string | number)[] = []) => {
    context.addIssue({ code: 'custom', message, path });
    return z.NEVER;
  };
  let one = value;
  if (Array.isArray(value) && (typeof value[0] === 'string' || Array.isArray(value[0]))) {
    if (value.length !== 1) return fail(`expected one prompt a request, got ${value.length}`);
    one = value[0];
  }
  if (typeof one === 'string') {
    return isWellFormed(one) ? one : fail('expected well-formed Unicode, got a lone surrogate');
  }
  if (!Array.isArray(one))
    return fail(`expected a string or a list of token ids, got ${kind(one)}`);
  const parsed = ids.safeParse(one);
  if (parsed.success) return parsed.data;
  const path = parsed.error.issues[0]?.path as number[];
  return fail(`expected a token id (a whole number from 0), got ${kind(one[path[0] ?? 0])}`, path);
});

export const completionRequest = z.strictObject({
  ...sampling,
  prompt,
  max_tokens: z.int().min(1).default(16),
  /** How many alternatives to report a token; 0 reports the sampled token alone. */
  logprobs: z.int().min(0).max(20).optional(),
});
export type CompletionRequest = z.infer<typeof completionRequest>;

const parts = z
  .array(z.strictObject({ type: z.literal('text'), text }))
  .min(1)
  .transform((list) => list.map((part) => part.text).join(''));

export const message = z.strictObject({
  role: z.enum(['system', 'user', 'assistant']),
  content: z.unknown().transform((value, context): string => {
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
  }),
  // Clients send back the assistant messages they were given; both are null there.
  refusal: z.null().optional(),
  annotations: z.array(z.never()).optional(),
});
export type ChatMessage = { role: 'system' | 'user' | 'assistant'; content: string };

export const chatFields = {
  ...sampling,
  messages: z.array(message).min(1),
  max_tokens: z.int().min(1).optional(),
  max_completion_tokens: z.int().min(1).optional(),
  logprobs: z.boolean().default(false),
  top_logprobs: z.int().min(0).max(20).optional(),
};

/** What fields of a chat request mean beside each other. */
export function checkChat(
  body: {
    logprobs: boolean;
    top_logprobs?: number | undefined;
    max_tokens?: number | undefined;
    max_completion_tokens?: number | undefined;
  },
  context: z.RefinementCtx,
): void {
  if (body.top_logprobs !== undefined && !body.logprobs) {
    context.addIssue({
      code: 'custom',
      path: ['top_logprobs'],
      message: 'expected `logprobs: true` beside it',
    });
  }
  const { max_tokens: old, max_completion_tokens: limit } = body;
  if (old !== undefined && limit !== undefined && old !== limit) {
    context.addIssue({
      code: 'custom',
      path: ['max_tokens'],
      message: 'expected the same as `max_completion_tokens`, or only one of the two',
    });
  }
}

export const chatRequest = z.strictObject(chatFields).superRefine(checkChat);
export type ChatRequest = z.infer<typeof chatRequest>;

export const tokenizeRequest = z.strictObject({ model: z.string().optional(), text });
export const detokenizeRequest = z.strictObject({ model: z.string().optional(), tokens: ids });
export const planRequest = z.strictObject({ text });

/** Fields of OpenAI's interface that this server does not do, with the value that asks for nothing. */
const REFUSED: Record<string, (value: unknown) => boolean> = {
  n: (value) => value === 1,
  best_of: (value) => value === 1,
  echo: (value) => value === false,
  suffix: (value) => value === '',
  presence_penalty: (value) => value === 0,
  frequency_penalty: (value) => value === 0,
  logit_bias: (value) => isEmpty(value),
  response_format: (value) => (value as { type?: unknown } | undefined)?.type === 'text',
  tools: (value) => isEmpty(value),
  tool_choice: (value) => value === 'none',
  parallel_tool_calls: () => false,
  functions: (value) => isEmpty(value),
  function_call: (value) => value === 'none',
  modalities: (value) => Array.isArray(value) && value.length === 1 && value[0] === 'text',
  audio: () => false,
  prediction: () => false,
  store: (value) => value === false,
  metadata: (value) => isEmpty(value),
  reasoning_effort: () => false,
  service_tier: (value) => value === 'auto' || value === 'default',
  web_search_options: () => false,
};

/**
 * Check a body against a schema.
 *
 * @throws HttpError 400 whose `param` is the first field that does not fit
 */
export function parseBody<T>(
  schema: z.ZodType<T> & { shape: Readonly<Record<string, unknown>> },
  body: unknown,
): T {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw invalid(null, `Expected a JSON object as the body, got ${kind(body)}.`, 'invalid_type');
  }
  const given: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(body)) {
    const known = Object.hasOwn(schema.shape, key);
    const neutral = !known && Object.hasOwn(REFUSED, key) ? REFUSED[key] : undefined;
    if (value !== null && neutral !== undefined && !neutral(value)) {
      throw invalid(
        key,
        `\`${key}\` is not supported by this server with this value; leave the field out.`,
        'unsupported_parameter',
      );
    }
    // OpenAI's optional fields may be null, which means absent.
    const optional = value === null && key !== 'prompt' && key !== 'messages';
    if (neutral === undefined && !optional) {
      Object.defineProperty(given, key, { value, enumerable: true });
    }
  }
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  throw fromIssue(parsed.error.issues[0] as z.core.$ZodIssue, given);
}

function fromIssue(issue: z.core.$ZodIssue, body: unknown): HttpError {
  if (issue.code === 'unrecognized_keys') {
    const field = pathOf([...issue.path, issue.keys[0] ?? '']);
    return invalid(
      field,
      `Unknown field \`${field}\`; expected only the fields listed in docs/http-api.md.`,
      'unknown_parameter',
    );
  }
  const field = pathOf(issue.path);
  const value = at(body, issue.path);
  if (value === undefined) {
    return invalid(field, `\`${field}\`: expected a value, got none.`, 'missing_parameter');
  }
  const words = describe(issue, value);
  const code = issue.code === 'invalid_type' ? 'invalid_type' : 'invalid_value';
  return invalid(
    field === '' ? null : field,
    `${field === '' ? '' : `\`${field}\`: `}${words}.`,
    code,
  );
}

function describe(issue: z.core.$ZodIssue, value: unknown): string {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${issue.expected}, got ${kind(value)}`;
    case 'too_big':
      return `expected at most ${issue.maximum}, got ${kind(value)}`;
    case 'too_small':
      return `expected ${issue.inclusive ? 'at least' : 'more than'} ${issue.minimum}, got ${kind(value)}`;
    case 'invalid_value':
      return `expected one of ${issue.values.map((one) => JSON.stringify(one)).join(', ')}, got ${kind(value)}`;
    default:
      return issue.message.includes('got ')
        ? issue.message
        : `${issue.message}, got ${kind(value)}`;
  }
}

/** A value in a few words: short scalars themselves, never a whole text. */
function kind(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'number') return String(value);
  if (typeof value === 'string') {
    return value.length <= 24 ? JSON.stringify(value) : `a string of ${value.length} characters`;
  }
  if (Array.isArray(value)) return `a list of ${value.length}`;
  return 'an object';
}

function pathOf(path: readonly PropertyKey[]): string {
  let field = '';
  for (const key of path) {
    if (typeof key === 'number') field += `[${key}]`;
    else field += field === '' ? String(key) : `.${String(key)}`;
  }
  return field;
}

function at(value: unknown, path: readonly PropertyKey[]): unknown {
  let here = value;
  for (const key of path) here = (here as Record<PropertyKey, unknown> | null | undefined)?.[key];
  return here;
}

/** No half of a surrogate pair stands alone: only such a text has a UTF-8 form. */
function isWellFormed(value: string): boolean {
  return !/\p{Surrogate}/u.test(value);
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}
