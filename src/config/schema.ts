// What lockstep.config.ts may say, and how a config that says something else is reported.
import { inspect } from 'node:util';
import { z } from 'zod';
import { count, positive } from '../contract/schema.ts';
import { LockstepError } from '../errors.ts';
import type { Policy } from '../policies/policy.ts';
import { nearestOption } from './nearest-option.ts';
import { carrySchema, indices, retrievalSchema } from './retrieval.ts';
import { trainingSchema } from './training.ts';

const patterns = z.array(z.string().min(1)).min(1);
const policySchema = z.custom<Policy>(
  (value) => (value as Policy | null | undefined)?.kind === 'policy',
  'expected a policy such as sentences() or fixed({ size: 512 })',
);

const segmentSchema = z
  .strictObject({
    /** Shortest closed segment, in tokens. */
    min: positive.optional(),
    /** S: longest segment, in tokens. */
    max: positive,
    /** Cuts fall on segment lengths divisible by this. */
    align: positive.default(1),
  })
  // Without `min` the shortest length that `align` allows.
  .transform((segment) => ({ ...segment, min: segment.min ?? segment.align }))
  .superRefine(({ min, max, align }, context) => {
    const multiple = (name: 'min' | 'max', value: number): void => {
      if (value % align === 0) return;
      context.addIssue({
        code: 'custom',
        path: [name],
        message: `expected a multiple of align (${align})`,
        input: value,
      });
    };
    multiple('min', min);
    multiple('max', max);
    if (min > max) {
      context.addIssue({
        code: 'custom',
        path: ['min'],
        message: `expected at most max (${max})`,
        input: min,
      });
    }
  });

const headsSchema = z.strictObject({
  /** H_long: KV heads that do without a carry; one list for every layer, or a list for each layer. */
  long: z.union([indices, z.array(indices)]),
});

const configSchema = z
  .strictObject({
    /** Folder of the Hugging Face checkpoint, relative to this file. */
    model: z.string().min(1),
    /** Folder for the trained checkpoint, relative to this file. */
    out: z.string().min(1),
    policy: policySchema,
    segment: segmentSchema,
    carry: carrySchema,
    retrieval: retrievalSchema.prefault({ size: 0, layers: [] }),
    heads: headsSchema.default({ long: [] }),
    /** Put the tokenizer's BOS at position 0; where it is left out, as the tokenizer itself does. */
    bos: z.boolean().optional(),
    data: z
      .strictObject({
        /** Texts to train on: paths or globs, relative to this file. */
        train: patterns,
        /** Texts never trained on, or the share of the documents that is held out. */
        validation: z.union([patterns, z.number().gt(0).lt(1)]).optional(),
        /** Held-out documents scored at most, chosen by a hash of their text. */
        validationDocuments: positive.default(64),
        /** What rows hold; `auto` finds it by their fields, file by file. */
        format: z
          .enum(['auto', 'text', 'messages', 'prompt-completion', 'preference'])
          .default('auto'),
        /** Where rows hold their text (`text` by default) or messages (`messages`). */
        field: z.string().min(1).optional(),
        /** Which targets of a conversation count; of plain text all do. */
        loss: z.enum(['assistant', 'last', 'all']).default('assistant'),
        /** Text of the token that ends every document: the tokenizer's end token; false for none. */
        end: z.union([z.literal(false), z.string().min(1)]).optional(),
        /** Conversations longer than a sequence: cut behind an answer, or an error. */
        long: z.enum(['cut', 'refuse']).default('cut'),
        /** Several short documents in one sequence, apart from each other; conversations by default. */
        pack: z.boolean().optional(),
        /** Recall documents among the texts: needles hidden in stretches of them, and asked for. */
        recall: z
          .strictObject({
            /** Share of all training tokens. */
            share: z.number().gt(0).max(0.5),
            /** Tokens of a recall document, taken in turn; the training's `sequence` by default. */
            lengths: z.array(z.int().min(512)).min(1).optional(),
            /** Needles in a document, each of them asked for. */
            needles: z.int().min(1).max(5).default(4),
          })
          .optional(),
        /** Continue after rows that cannot be used, instead of stopping at the first file with one. */
        skipBroken: z.boolean().default(false),
        /** Folder of tokenized texts, relative to this file; `.lockstep/cache` beside it by default. */
        cache: z.string().min(1).optional(),
        /** Processes that cut sequences ahead of the training; 0 cuts them in the trainer. */
        workers: count.max(64).default(1),
      })
      .optional(),
    training: trainingSchema.optional(),
    verify: z
      .strictObject({
        /** Text to verify on; a built-in sample by default. */
        text: z.string().min(1).optional(),
        tokens: z.int().min(2).default(512),
        /** Largest |dlogp| that passes; the engine's own bound by default. */
        tolerance: z.number().positive().optional(),
      })
      .optional(),
  })
  .superRefine((config, context) => {
    if (config.training !== undefined && config.data === undefined) {
      context.addIssue({
        code: 'custom',
        path: ['data'],
        message: 'expected { train: [...] }, as training is given',
        input: undefined,
      });
    }
    if (config.data?.format === 'prompt-completion' && config.data.field !== undefined) {
      context.addIssue({
        code: 'custom',
        path: ['data', 'field'],
        message: 'expected none, as such rows have `prompt` and `completion`',
        input: config.data.field,
      });
    }
    for (const problem of preferenceProblems(config)) {
      context.addIssue({ code: 'custom', ...problem });
    }
    if (config.training?.validateEvery !== undefined && config.data?.validation === undefined) {
      context.addIssue({
        code: 'custom',
        path: ['training', 'validateEvery'],
        message: 'expected none, as `data` names no `validation` texts',
        input: config.training.validateEvery,
      });
    }
  });

/** What does not fit together where rows have two answers. */
function preferenceProblems({
  data,
  training,
}: {
  data?: { format: string; field?: string | undefined; loss: string; recall?: unknown } | undefined;
  training?: { dpo?: unknown } | undefined;
}): { path: string[]; message: string; input: unknown }[] {
  if (data === undefined || training === undefined) return [];
  const { format, field, loss } = data;
  if (training.dpo === undefined) {
    if (format !== 'preference') return [];
    const message = "expected {} or { beta: 0.1 }, as data.format is 'preference'";
    return [{ path: ['training', 'dpo'], message, input: undefined }];
  }
  const problems = [];
  if (format !== 'auto' && format !== 'preference') {
    const message = "expected 'preference' or nothing, as training.dpo is given";
    problems.push({ path: ['data', 'format'], message, input: format });
  }
  if (field !== undefined) {
    const message = 'expected none, as such rows have `prompt`, `chosen` and `rejected`';
    problems.push({ path: ['data', 'field'], message, input: field });
  }
  if (data.recall !== undefined) {
    const message = 'expected none, as rows of two answers have no recall documents among them';
    problems.push({ path: ['data', 'recall'], message, input: data.recall });
  }
  if (loss === 'all') {
    const message = "expected 'assistant' or 'last', as training.dpo compares answers";
    problems.push({ path: ['data', 'loss'], message, input: loss });
  }
  return problems;
}

/** A config as a user writes it. */
export type ConfigInput = z.input<typeof configSchema>;
/** A config with every default filled in. */
export type ConfigValues = z.output<typeof configSchema>;

/**
 * Check a config and fill in its defaults.
 *
 * @param source what to call it in errors, e.g. the file's name
 * @throws LS_CONFIG_INVALID with every problem: path, expected, received
 */
export function parseConfig(value: unknown, source: string): ConfigValues {
  const result = configSchema.safeParse(value);
  if (result.success) return result.data;
  throw configError(source, problemsOf(result.error.issues, value, configSchema));
}

/** One thing that does not fit: where, what was expected, what came. */
export interface ConfigProblem {
  path: string;
  expected: string;
  received: string;
}

/** LS_CONFIG_INVALID from its list of problems. */
export function configError(source: string, problems: readonly ConfigProblem[]): LockstepError {
  const [first] = problems;
  return new LockstepError('LS_CONFIG_INVALID', problemText(source, problems), {
    fix: 'Correct the named fields; docs/config.md lists them all.',
    ...(first === undefined ? {} : { field: first.path }),
  });
}

/** All problems of a config in words: one in a line, several as a list. */
export function problemText(source: string, problems: readonly ConfigProblem[]): string {
  const lines = problems.map(
    ({ path, expected, received }) => `${path || 'the config'}: ${expected}, got ${received}`,
  );
  return lines.length === 1
    ? `${source}: ${lines[0]}`
    : `${source} has ${lines.length} problems:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}

/** What zod found, in words. */
export function problemsOf(
  issues: readonly z.core.$ZodIssue[],
  root: unknown,
  schema: z.ZodType,
): ConfigProblem[] {
  return issues
    .filter((issue, i) => !issues.slice(i + 1).some((later) => isStricter(later, issue)))
    .flatMap((issue) => problemsOfOne(issue, root, schema));
}

/** A number beyond what an integer can be is beyond the field's own bound, too, which zod says after it. */
function isStricter(one: z.core.$ZodIssue, other: z.core.$ZodIssue): boolean {
  const bound = one.code === 'too_big' || one.code === 'too_small';
  return bound && one.code === other.code && pathText(one.path) === pathText(other.path);
}

function problemsOfOne(issue: z.core.$ZodIssue, root: unknown, schema: z.ZodType): ConfigProblem[] {
  const path = pathText(issue.path);
  const received = describe(valueAt(root, issue.path));
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      path: pathText([...issue.path, key]),
      expected: `expected no such option${nearestOption(schema, issue.path, key)}`,
      received: describe(valueAt(root, [...issue.path, key])),
    }));
  }
  const sample = received === 'nothing' ? samples[path] : undefined;
  return [{ path, expected: sample ? `expected ${sample}` : expectedText(issue), received }];
}

/** What a config that leaves out a required option could say. */
const samples: Readonly<Record<string, string>> = {
  model: "a folder such as 'models/my-model'",
  out: "a folder such as 'runs/mine'",
  policy: 'a policy such as sentences() or fixed({ size: 512 })',
  segment: 'an object such as { max: 512 }',
  'segment.max': 'an integer such as 512',
  carry: 'an object such as { size: 128 }',
  'carry.size': 'an integer such as 128',
};

const typeNames: Readonly<Record<string, string>> = {
  int: 'an integer',
  object: 'an object',
  array: 'a list',
};

function expectedText(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${typeNames[issue.expected] ?? `a ${issue.expected}`}`;
    case 'too_small':
      return issue.origin === 'array'
        ? `expected at least ${issue.minimum} ${Number(issue.minimum) === 1 ? 'entry' : 'entries'}`
        : issue.origin === 'string'
          ? 'expected a non-empty string'
          : `expected a number ${issue.inclusive === false ? 'above' : 'of at least'} ${issue.minimum}`;
    case 'too_big':
      return `expected a number of at most ${issue.maximum}`;
    case 'invalid_value':
      return `expected ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`;
    case 'invalid_union':
      return unionText(issue);
    default:
      return issue.message.startsWith('expected') ? issue.message : `expected: ${issue.message}`;
  }
}

/** The branches of a union, each by its own first complaint. */
function unionText(issue: z.core.$ZodIssueInvalidUnion): string {
  const texts = issue.errors.map((errors) => {
    const [first] = errors;
    if (first === undefined) return 'something else';
    const at = pathText(first.path);
    return expectedText(first).replace(/^expected /, '') + (at === '' ? '' : ` at ${at}`);
  });
  return `expected ${[...new Set(texts)].join(' or ')}`;
}

function pathText(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, key) => {
    if (typeof key === 'number') return `${text}[${key}]`;
    return text === '' ? String(key) : `${text}.${String(key)}`;
  }, '');
}

function valueAt(root: unknown, path: readonly PropertyKey[]): unknown {
  let value = root;
  for (const key of path) value = (value as Record<PropertyKey, unknown> | null | undefined)?.[key];
  return value;
}

/** As JSON; what JSON does not have (NaN, big integers, circles), as JavaScript says it. */
function textOf(value: unknown): string {
  const plain = (_: string, held: unknown): unknown =>
    typeof held === 'number' && !Number.isFinite(held) ? String(held) : held;
  if (typeof value === 'number') return String(value);
  try {
    return JSON.stringify(value, plain) ?? String(value);
  } catch {
    return inspect(value, { depth: 1, breakLength: Number.POSITIVE_INFINITY });
  }
}

function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'function')
    return `a function${value.name === '' ? '' : ` (${value.name})`}`;
  const text = textOf(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
