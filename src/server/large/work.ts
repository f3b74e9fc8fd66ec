// What large requests cost: reading their JSON, tokenizing, planning. A worker thread runs it for bodies
// that would hold up every stream; small ones run where they are.
import type { Contract } from '../../contract/schema.ts';
import { type PlannerSource, plan } from '../../planner/index.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { HttpError, invalid } from '../errors.ts';
import { isTooDeep, MOST_DEPTH } from '../limits/depth.ts';
import { checkIds, encodePrompt, TokenShow } from '../prompt/tokens.ts';
import {
  chatRequest,
  completionRequest,
  detokenizeRequest,
  planRequest,
  tokenizeRequest,
} from '../requests/completions.ts';
import { kind, parseBody } from '../requests/parse.ts';
import { responseRequest } from '../requests/responses.ts';

export const schemas = {
  completion: completionRequest,
  chat: chatRequest,
  response: responseRequest,
  tokenize: tokenizeRequest,
  detokenize: detokenizeRequest,
  plan: planRequest,
};
export type SchemaName = keyof typeof schemas;
/** Requests that are answered without the model. */
export type ToolName = 'tokenize' | 'detokenize' | 'plan';

/** How much of something a body may have, whatever model it is for. */
export interface Counts {
  /** Most tokens of a sequence, of the model that takes most. */
  tokens: number;
  /** Most messages of a conversation. */
  messages: number;
}

/** What of a model the work looks at. */
export interface Facts {
  /** Most tokens of a sequence. */
  tokens: number;
  vocabulary: number;
}

export interface Kit {
  tokenizer: Tokenizer;
  source: PlannerSource;
}

/**
 * The JSON value of a body; an empty body is an empty object.
 *
 * @throws HttpError 400 `invalid_json`, `body_too_deep`
 */
export function readJson(body: Uint8Array): unknown {
  if (isTooDeep(body)) {
    const words = `Expected a body nested at most ${MOST_DEPTH} deep, got a deeper one.`;
    throw new HttpError(400, words, { code: 'body_too_deep' });
  }
  const text = new TextDecoder().decode(body);
  if (text === '') return {};
  try {
    if (!/^[\t\n\r ]*[[{]/.test(text)) throw new Error(`it begins with ${kind(text.slice(0, 1))}`);
    return JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : '';
    throw new HttpError(400, `Expected a JSON object as the body: ${reason}`, {
      code: 'invalid_json',
    });
  }
}

/**
 * Refuse what is too much by its count alone, before each part is looked at.
 *
 * @throws HttpError 400
 */
export function checkCounts(name: SchemaName, body: unknown, counts: Counts): void {
  if (typeof body !== 'object' || body === null) return;
  const given = body as Record<string, unknown>;
  const field = name === 'chat' ? 'messages' : name === 'response' ? 'input' : null;
  const list = field === null ? null : given[field];
  if (field !== null && Array.isArray(list) && list.length > counts.messages) {
    const words = `\`${field}\`: expected at most ${counts.messages}, got ${kind(list)}.`;
    throw invalid(field, words, 'too_many_messages');
  }
  if (name !== 'completion' || !Array.isArray(given['prompt'])) return;
  const prompts = given['prompt'] as unknown[];
  const one = typeof prompts[0] === 'number' ? [prompts] : prompts;
  one.forEach((ids, i) => {
    if (!Array.isArray(ids) || ids.length < counts.tokens) return;
    const where = one.length === 1 && one[0] === prompts ? 'prompt' : `prompt[${i}]`;
    throw tooLong(where, counts.tokens, String(ids.length));
  });
}

/** A body that has been read, counted and checked against its schema. */
export function readBody(name: SchemaName, body: Uint8Array, counts: Counts): object {
  const value = readJson(body);
  checkCounts(name, value, counts);
  return parseBody(schemas[name] as never, value) as object;
}

/** Answer a request that runs no model; the answer is a JSON object. */
export function answerTool(name: ToolName, body: unknown, kit: Kit, facts: Facts): Promise<object> {
  if (name === 'tokenize') return tokenized(body, kit, facts);
  return name === 'detokenize' ? detokenized(body, kit, facts) : planned(body, kit, facts);
}

/** Ids of a text, as the model would be given them. */
async function tokenized(body: unknown, kit: Kit, facts: Facts): Promise<object> {
  const { text } = parseBody(tokenizeRequest, body);
  const tokens = await encodePrompt(text, kit.tokenizer, kit.source.contract);
  return { tokens: Array.from(tokens), count: tokens.length, max_model_len: facts.tokens };
}

async function detokenized(body: unknown, kit: Kit, facts: Facts): Promise<object> {
  const { tokens } = parseBody(detokenizeRequest, body);
  const ids = checkIds(tokens, 'tokens', facts.vocabulary);
  return { text: kit.tokenizer.decode(ids, { skipSpecial: false }) };
}

/** Where the contract's policy cuts a text: decided cuts, and every segment's own text. */
async function planned(body: unknown, { tokenizer, source }: Kit, facts: Facts): Promise<object> {
  const { text } = parseBody(planRequest, body);
  const contract: Contract = source.contract;
  const tokens = await encodePrompt(text, tokenizer, contract, facts.tokens);
  if (tokens.length > facts.tokens) throw tooLong('text', facts.tokens + 1, 'more');
  const boundaries = plan(source, tokens);
  const show = new TokenShow(tokenizer);
  const special: number[] = [];
  const texts = Array.from(tokens, (id, i) => {
    const token = show.push(id);
    if (token.special) special.push(i);
    return token.text;
  });
  if (texts.length > 0) texts[texts.length - 1] += show.end();
  const ends = boundaries.at(-1) === tokens.length ? boundaries : [...boundaries, tokens.length];
  const segments =
    tokens.length === 0
      ? []
      : ends.map((end, index) => {
          const start = ends[index - 1] ?? 0;
          const closed = index < boundaries.length;
          return { index, start, end, closed, text: texts.slice(start, end).join('') };
        });
  const { digest } = contract;
  return { tokens: Array.from(tokens), texts, special, boundaries, segments, digest };
}

/** @param below a sequence has fewer tokens than this */
function tooLong(field: string, below: number, got: string): HttpError {
  const words = `\`${field}\`: expected fewer than ${below} tokens (the session limit), got ${got}.`;
  return invalid(field, words, 'context_length_exceeded');
}
