// The request bodies, as strict schemas: a field is understood, or it is refused by its name.
import { z } from 'zod';
import type { ExtraRequest } from '../../engines/runner.ts';
import { message } from './messages.ts';
import { isWellFormed, kind } from './parse.ts';
import { text } from './text-field.ts';
import { MOST_TOOLS, tool, toolChoice } from './tools.ts';

const MAX_STOPS = 4;
/** As many texts as one request may ask for after each prompt. */
const MOST_CHOICES = 128;
/** As many prompts as one request may bring. */
const MOST_PROMPTS = 2048;
const ids = z.array(z.int().min(0));

const stop = z
  .union([text, z.array(text)], { error: 'expected a string or a list of strings' })
  .transform((value) => (typeof value === 'string' ? [value] : value))
  .refine((list) => list.length <= MAX_STOPS, {
    error: `expected at most ${MAX_STOPS} stop strings`,
  })
  .refine((list) => list.every((one) => one.length > 0), {
    error: 'expected non-empty stop strings',
  });

/** What a request says of a JSON schema; `/v1/responses` has it beside the format's type. */
export const schemaFields = {
  name: z.string(),
  description: z.string().nullish(),
  schema: z.record(z.string(), z.unknown()),
  strict: z.boolean().nullish(),
};

/** Fields that go to the engine as they are. */
const more = {
  n: z.int().min(1).max(MOST_CHOICES).default(1),
  presence_penalty: z.number().min(-2).max(2).optional(),
  frequency_penalty: z.number().min(-2).max(2).optional(),
  repetition_penalty: z.number().gt(0).max(2).optional(),
  top_k: z.int().min(-1).optional(),
  min_p: z.number().min(0).max(1).optional(),
  min_tokens: z.int().min(0).optional(),
  ignore_eos: z.boolean().optional(),
  logit_bias: z
    .record(
      // One spelling of each id: two of the same one would be added up.
      z.string().regex(/^(0|[1-9]\d*)$/, 'expected token ids as keys'),
      z.number().min(-100).max(100),
    )
    .optional(),
  response_format: z
    .discriminatedUnion('type', [
      z.strictObject({ type: z.literal('text') }),
      z.strictObject({ type: z.literal('json_object') }),
      z.strictObject({
        type: z.literal('json_schema'),
        json_schema: z.strictObject(schemaFields),
      }),
    ])
    .optional(),
};

const sampling = {
  model: z.string().optional(),
  temperature: z.number().min(0).max(2).default(1),
  top_p: z.number().gt(0).max(1).default(1),
  seed: z.int().optional(),
  stop: stop.optional(),
  stream: z.boolean().default(false),
  stream_options: z
    .strictObject({
      include_usage: z.boolean().nullish(),
      /** OpenAI pads its chunks for networks that others watch. None are padded here. */
      include_obfuscation: z.boolean().nullish(),
    })
    .optional(),
  /** Who asks, for the caller's own books; a hint to OpenAI's cache. They change nothing. */
  user: z.string().optional(),
  safety_identifier: z.string().optional(),
  prompt_cache_key: z.string().optional(),
  ...more,
  lockstep: z
    .strictObject({
      trace: z.boolean().default(false),
      segments: z.boolean().default(false),
      sources: z.boolean().default(false),
    })
    .optional(),
};

/** A prompt: a text, or token ids. */
export type Prompt = string | number[];

/** A text or token ids, or a list of either. */
const prompt = z.unknown().transform((value, context): Prompt[] => {
  const fail = (message: string, path: (string | number)[] = []) => {
    context.addIssue({ code: 'custom', message, path });
    return z.NEVER;
  };
  const one = (given: unknown, path: (string | number)[]): Prompt => {
    if (typeof given === 'string') {
      if (isWellFormed(given)) return given;
      return fail('expected well-formed Unicode, got a lone surrogate', path);
    }
    if (!Array.isArray(given)) {
      return fail(`expected a string or a list of token ids, got ${kind(given)}`, path);
    }
    const parsed = ids.safeParse(given);
    if (parsed.success) return parsed.data;
    const at = parsed.error.issues[0]?.path as number[];
    const got = kind(given[at[0] ?? 0]);
    return fail(`expected a token id (a whole number from 0), got ${got}`, [...path, ...at]);
  };
  const several = Array.isArray(value) && (typeof value[0] === 'string' || Array.isArray(value[0]));
  if (!several) return [one(value, [])];
  if (value.length > MOST_PROMPTS) {
    return fail(`expected at most ${MOST_PROMPTS} prompts, got ${value.length}`);
  }
  return value.map((given, i) => one(given, [i]));
});

export const completionRequest = z
  .strictObject({
    ...sampling,
    prompt,
    /** 0 beside `echo`: the prompt is scored and nothing is written. */
    max_tokens: z.int().min(0).default(16),
    /** How many alternatives to report a token; 0 reports the sampled token alone. */
    logprobs: z.int().min(0).max(20).optional(),
    /** The answer begins with the prompt. */
    echo: z.boolean().default(false),
  })
  .superRefine((body, context) => {
    if (body.max_tokens === 0 && !body.echo) {
      const message = 'expected at least 1 without `echo`';
      context.addIssue({ code: 'custom', path: ['max_tokens'], message });
    }
    checkLength(body, body.max_tokens, context);
    checkSeeds(body, context);
  });
export type CompletionRequest = z.infer<typeof completionRequest>;

const chatFields = {
  ...sampling,
  messages: z.array(message).min(1),
  /** Variables for the chat template, which looks at those it knows. */
  chat_template_kwargs: z.record(z.string(), z.json()).optional(),
  tools: z.array(tool).max(MOST_TOOLS).optional(),
  tool_choice: toolChoice.optional(),
  parallel_tool_calls: z.boolean().optional(),
  max_tokens: z.int().min(1).optional(),
  max_completion_tokens: z.int().min(1).optional(),
  logprobs: z.boolean().default(false),
  top_logprobs: z.int().min(0).max(20).optional(),
};

/** What fields of a chat request mean beside each other. */
function checkChat(
  body: {
    n: number;
    seed?: number | undefined;
    min_tokens?: number | undefined;
    chat_template_kwargs?: Record<string, unknown> | undefined;
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
      message: 'requires `logprobs: true`',
      params: { whole: true },
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
  checkLength(body, limit ?? old, context);
  checkSeeds(body, context);
  const taken = OWN_VARIABLES.find((name) => Object.hasOwn(body.chat_template_kwargs ?? {}, name));
  if (taken !== undefined) {
    context.addIssue({
      code: 'custom',
      path: ['chat_template_kwargs', taken],
      message: 'the server sets this variable; leave it out',
      params: { whole: true },
    });
  }
}

/** Variables of a chat template that come from the request's other fields. */
const OWN_VARIABLES = ['messages', 'tools', 'documents', 'add_generation_prompt'];

function checkLength(
  { min_tokens: least }: { min_tokens?: number | undefined },
  most: number | undefined,
  context: z.RefinementCtx,
): void {
  if (least === undefined || most === undefined || least <= most) return;
  const message = `expected at most ${most}, the most tokens asked for`;
  context.addIssue({ code: 'custom', path: ['min_tokens'], message });
}

/** Text i has the seed `seed` + i: beyond what a number holds exactly, two texts would have the same one. */
function checkSeeds(
  { n, seed }: { n: number; seed?: number | undefined },
  context: z.RefinementCtx,
): void {
  const most = Number.MAX_SAFE_INTEGER - (n - 1);
  if (seed === undefined || seed <= most) return;
  const message = `expected at most ${most}, so that each of ${n} texts has a seed of its own`;
  context.addIssue({ code: 'custom', path: ['seed'], message });
}

export const chatRequest = z.strictObject(chatFields).superRefine(checkChat);
export type ChatRequest = z.infer<typeof chatRequest>;

/** The fields of a request that go to the engine as they are. */
export function extraOf(body: { [K in keyof typeof more]?: unknown }): ExtraRequest {
  const extra: Record<string, unknown> = {};
  for (const name of Object.keys(more) as (keyof typeof more)[]) {
    if (body[name] !== undefined) extra[name] = body[name];
  }
  const format = extra['response_format'] as { type?: string } | undefined;
  if (format?.type === 'text') delete extra['response_format'];
  return extra;
}

export const tokenizeRequest = z.strictObject({ model: z.string().optional(), text });
export const detokenizeRequest = z.strictObject({ model: z.string().optional(), tokens: ids });
export const planRequest = z.strictObject({ text });
