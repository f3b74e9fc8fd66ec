// Checking a request's body against a strict schema: a field is understood, or it is refused by its name.
import { z } from 'zod';
import { type HttpError, invalid } from '../errors.ts';

/** Fields of OpenAI's interface that this server does not do, with the value that asks for nothing. */
export const REFUSED: Record<string, (value: unknown) => boolean> = {
  best_of: (value) => value === 1,
  echo: (value) => value === false,
  suffix: (value) => value === '',
  tools: (value) => isEmpty(value),
  tool_choice: (value) => value === 'none' || value === 'auto',
  parallel_tool_calls: (value) => value === true,
  functions: (value) => isEmpty(value),
  function_call: (value) => value === 'none' || value === 'auto',
  modalities: (value) => Array.isArray(value) && value.length === 1 && value[0] === 'text',
  audio: () => false,
  prediction: () => false,
  store: (value) => value === false,
  metadata: (value) => isEmpty(value),
  reasoning_effort: () => false,
  service_tier: (value) => value === 'auto' || value === 'default',
  web_search_options: () => false,
};

/** Bodies that a schema has made already. */
const checked = new WeakMap<object, unknown>();

/** This body is what `parseBody` would give for it. */
export function markChecked(schema: unknown, body: object): void {
  checked.set(body, schema);
}

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
  if (checked.get(body) === schema) return body as T;
  const given: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(body)) {
    const known = Object.hasOwn(schema.shape, key);
    const neutral = !known && Object.hasOwn(REFUSED, key) ? REFUSED[key] : undefined;
    if (value !== null && neutral !== undefined && !neutral(value)) {
      throw invalid(
        key,
        `This server does not support this value of \`${key}\`; leave the field out.`,
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

/** What one schema says against a value, for the schema that asked it. */
export function passOn({ issues }: z.ZodError, context: z.RefinementCtx): never {
  for (const issue of issues) context.addIssue(issue as Parameters<typeof context.addIssue>[0]);
  return z.NEVER;
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
    case 'custom':
      // A message that needs no value after it.
      if (issue.params?.['whole'] === true) return issue.message;
      return withValue(issue.message, value);
    default:
      return withValue(issue.message, value);
  }
}

function withValue(message: string, value: unknown): string {
  return message.includes('got ') ? message : `${message}, got ${kind(value)}`;
}

/** A value in a few words: short scalars themselves, never a whole text. */
export function kind(value: unknown): string {
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
export function isWellFormed(value: string): boolean {
  return !/\p{Surrogate}/u.test(value);
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}
