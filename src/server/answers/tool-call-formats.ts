// The formats in which models write calls of tools.
import { parseJson } from '../../json.ts';
import { rawField, rawItems } from '../raw-json.ts';

/** A tool's name, and its arguments as JSON text. */
export interface Call {
  name: string;
  arguments: string;
}

/** Where a call begins, and ends; `close` null: at the next call, or with the text. */
export const TAGS: readonly { open: string; close: string | null }[] = [
  // Hermes, Qwen
  { open: '<tool_call>', close: '</tool_call>' },
  // Mistral
  { open: '[TOOL_CALLS]', close: null },
];

/** Texts of special tokens that calls are made of: they must not be left out of an answer's text. */
export const CALL_TOKENS: readonly string[] = [
  ...TAGS.flatMap(({ open, close }) => (close === null ? [open] : [open, close])),
  '[CALL_ID]',
  '[ARGS]',
];

/**
 * Calls that a JSON text stands for, one or a list: `{"name", "arguments"}`, in Llama's words
 * `{"name", "parameters"}`. Null where it stands for none. Arguments stay as the model wrote them: a number
 * of JavaScript is not every number of JSON.
 */
export function callsIn(text: string): Call[] | null {
  const value = parseJson(text);
  const [values, texts] = Array.isArray(value) ? [value, rawItems(text)] : [[value], [text]];
  const calls = values.flatMap((one: unknown, i) => {
    const { name, arguments: own, parameters } = (one ?? {}) as Record<string, unknown>;
    if (typeof name !== 'string') return [];
    const given = own ?? parameters ?? null;
    if (given === null) return { name, arguments: '{}' };
    if (typeof given === 'string') return { name, arguments: given };
    const field = own == null ? 'parameters' : 'arguments';
    return { name, arguments: rawField(texts[i] as string, field) as string };
  });
  return calls.length > 0 && calls.length === values.length ? calls : null;
}

/**
 * What stands behind Mistral's `[TOOL_CALLS]` since its tokenizer v11: `name[ARGS]{...}`, in v11
 * `name[CALL_ID]id[ARGS]{...}` (mistral-common, tokens/tokenizers/instruct.py). Null where it is none.
 */
export function mistralCalls(text: string): Call[] | null {
  const found = /^\s*([\w-]{1,64})\s*(?:\[CALL_ID\]\s*\w+\s*)?\[ARGS\](.*)$/s.exec(text);
  const args = found?.[2]?.trim() ?? '';
  return found !== null && args.startsWith('{') && isJson(args)
    ? [{ name: found[1] as string, arguments: args }]
    : null;
}

export function isJson(text: string): boolean {
  return parseJson(text) !== undefined;
}
