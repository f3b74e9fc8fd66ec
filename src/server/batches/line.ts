// One line of an input file: what it has to be, and the request that it holds.
import { z } from 'zod';
import { rawField } from '../raw-json.ts';

export const ENDPOINTS = ['/v1/chat/completions', '/v1/completions', '/v1/responses'] as const;
export type Endpoint = (typeof ENDPOINTS)[number];

/** Most letters of a `custom_id`. */
const MOST_ID = 512;

/** A problem as a batch tells it. */
export interface Problem {
  code: string;
  message: string;
  param: string | null;
  /** From 1; null: the file as a whole. */
  line: number | null;
}

export interface LineRequest {
  customId: string;
  /** The body's JSON text, as it was written. */
  body: string;
}

/** What a batch expects of its lines. */
export interface Expected {
  endpoint: Endpoint;
  /** The models that are served; null: any name. */
  models: readonly string[] | null;
}

const shape = z.strictObject({
  custom_id: z.string().min(1).max(MOST_ID),
  method: z.literal('POST'),
  url: z.string(),
  body: z.record(z.string(), z.unknown()),
});

/** The code for a field that does not fit. */
const CODES: Record<string, string> = {
  custom_id: 'invalid_custom_id',
  method: 'invalid_method',
  url: 'invalid_url',
  body: 'invalid_body',
};

/** Read a line. Whether its body is a request that can be answered shows when it runs. */
export function readLine(
  bytes: Uint8Array,
  { endpoint, models }: Expected,
): LineRequest | Omit<Problem, 'line'> {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    value = JSON.parse(text);
  } catch {
    return problem('invalid_json_line', 'Expected a JSON object in UTF-8, got something else.');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return problem('invalid_json_line', 'Expected a JSON object, got another JSON value.');
  }
  const parsed = shape.safeParse(value);
  if (!parsed.success) return misfit(parsed.error.issues[0] as z.core.$ZodIssue, value);
  const { custom_id: customId, url, body } = parsed.data;
  if (url !== endpoint) {
    const words = `\`url\`: expected the batch's endpoint ${endpoint}, got ${short(url)}.`;
    return problem('invalid_url', words, 'url');
  }
  const { model, stream } = body;
  if (typeof model === 'string' && models !== null && !models.includes(model)) {
    const words = `\`body.model\`: expected ${models.join(' or ')}, got ${short(model)}.`;
    return problem('model_not_found', words, 'body.model');
  }
  if (stream === true) {
    const words = '`body.stream`: expected no stream; a batch has whole answers.';
    return problem('stream_not_supported', words, 'body.stream');
  }
  return { customId, body: rawField(text, 'body') ?? JSON.stringify(body) };
}

function misfit(issue: z.core.$ZodIssue, value: object): Omit<Problem, 'line'> {
  if (issue.code === 'unrecognized_keys') {
    const [key = ''] = issue.keys;
    const words = `Expected \`custom_id\`, \`method\`, \`url\` and \`body\`, got \`${short(key)}\` too.`;
    return problem('unknown_parameter', words, key.slice(0, 80));
  }
  const [field = ''] = issue.path as string[];
  const code = Object.hasOwn(value, field)
    ? (CODES[field] ?? 'invalid_value')
    : 'missing_parameter';
  const expected: Record<string, string> = {
    custom_id: `a text of 1 to ${MOST_ID} letters`,
    method: 'POST',
    url: "the batch's endpoint",
    body: 'a JSON object',
  };
  const got = Object.hasOwn(value, field) ? 'something else' : 'nothing';
  return problem(code, `\`${field}\`: expected ${expected[field]}, got ${got}.`, field);
}

function problem(code: string, message: string, param: string | null = null) {
  return { code, message, param };
}

function short(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
