// The two shapes of an answer, text completion and chat completion, whole and in chunks.
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { HttpError } from '../errors.ts';
import type { ToolCallParser } from './tool-calls.ts';

/** One sampled token, with what an answer says about it. */
export interface SampledToken {
  id: number;
  /** Text that became certain with this token; may be empty, may hold earlier tokens' text. */
  text: string;
  /** Natural logarithm of the probability that the model gave it; null for a first token, which follows none. */
  logprob: number | null;
  /** The likeliest tokens at this place, best first. */
  top: readonly { id: number; logprob: number }[];
}

export type FinishReason = 'stop' | 'length' | 'tool_calls';

/** One text of an answer, once it has ended. */
export interface WholeChoice {
  text: string;
  tokens: readonly SampledToken[];
  reason: 'stop' | 'length';
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** Where the engine has a prefix cache. */
  prompt_tokens_details?: { cached_tokens: number };
}

export interface ResponseHead {
  id: string;
  created: number;
  model: string;
  /** Names the contract: two servers with the same fingerprint compute the same thing. */
  system_fingerprint: string;
}

/** How one endpoint words its answers. Choices are counted from 0. */
export interface ResponseFormat {
  /** What opens a choice in a stream, before any text. */
  firstChoice(choice: number): object | null;
  /** A choice that carries text, and logprobs where they were asked for; null: nothing to say yet. */
  textChoice(choice: number, text: string, tokens: readonly SampledToken[]): object | null;
  /** The choice that ends a text in a stream, after `textChoice` of all its text. */
  finalChoice(choice: number, reason: 'stop' | 'length'): object;
  /** A chunk of a stream around its choices. */
  chunk(choices: readonly object[]): object;
  /** The whole answer. */
  fullResponse(choices: readonly WholeChoice[], usage: Usage): object;
}

/** An answer of one text whose stream is events that name their `type`. */
export interface EventFormat extends Pick<ResponseFormat, 'fullResponse'> {
  begin(): Iterable<object>;
  /** Text that is now sure. */
  text(text: string): Iterable<object>;
  /** The last of the text. */
  end(text: string, reason: 'stop' | 'length'): Iterable<object>;
  /** The event that closes the stream. */
  done(reason: 'stop' | 'length', usage: Usage): object;
  /** What went wrong in it; nothing follows. */
  failed(error: HttpError): object;
}

/** `/v1/completions`. `logprobs`: how many alternatives a token, or null for none at all. */
export function completionFormat(
  head: ResponseHead,
  tokenizer: Tokenizer,
  logprobs: number | null,
): ResponseFormat {
  const offsets: number[] = [];
  const choice = (
    index: number,
    text: string,
    tokens: readonly SampledToken[],
    reason: FinishReason | null,
  ): object => ({
    index,
    text,
    logprobs: logprobs === null ? null : lists(index, tokens),
    finish_reason: reason,
  });
  function lists(index: number, tokens: readonly SampledToken[]): object {
    let offset = offsets[index] ?? 0;
    const at = tokens.map((token) => {
      const here = offset;
      offset += token.text.length;
      return here;
    });
    offsets[index] = offset;
    return {
      tokens: tokens.map(({ id }) => tokenName(tokenizer, id)),
      token_logprobs: tokens.map(({ logprob }) => logprob),
      // The token itself stands among them, whether or not it is one of the likeliest.
      top_logprobs: tokens.map(({ id, logprob, top }) =>
        logprob === null
          ? null
          : Object.fromEntries(
              (top.some((one) => one.id === id) ? top : [...top, { id, logprob }]).map((one) => [
                tokenName(tokenizer, one.id),
                one.logprob,
              ]),
            ),
      ),
      text_offset: at,
    };
  }
  const around = (choices: readonly object[]): object => ({
    ...head,
    object: 'text_completion',
    choices,
  });
  return {
    firstChoice: () => null,
    textChoice: (index, text, tokens) =>
      text === '' && logprobs === null ? null : choice(index, text, tokens, null),
    finalChoice: (index, reason) => choice(index, '', [], reason),
    chunk: around,
    fullResponse: (choices, usage) => ({
      ...around(choices.map((one, i) => choice(i, one.text, one.tokens, one.reason))),
      usage,
    }),
  };
}

/**
 * `/v1/chat/completions`.
 *
 * @param logprobs whether to report any
 * @param tools finds calls of tools in one choice's text; null where none may be called
 */
export function chatFormat(
  head: ResponseHead,
  tokenizer: Tokenizer,
  logprobs: boolean,
  tools: (() => ToolCallParser) | null = null,
): ResponseFormat {
  const one = (id: number, logprob: number | null) => ({
    token: tokenName(tokenizer, id),
    logprob,
    bytes: Array.from(tokenizer.bytes(id)),
  });
  const content = (tokens: readonly SampledToken[]): object | null =>
    logprobs
      ? {
          content: tokens.map((token) => ({
            ...one(token.id, token.logprob),
            top_logprobs: token.top.map((other) => one(other.id, other.logprob)),
          })),
          refusal: null,
        }
      : null;
  const parsers: ToolCallParser[] = [];
  const parserOf = (index: number): ToolCallParser | null => {
    if (tools === null) return null;
    parsers[index] ??= tools();
    return parsers[index];
  };
  const finish = (index: number, reason: 'stop' | 'length'): FinishReason =>
    reason === 'stop' && (parsers[index]?.called ?? false) ? 'tool_calls' : reason;
  return {
    firstChoice: (index) => ({
      index,
      delta: { role: 'assistant', content: '', refusal: null },
      logprobs: null,
      finish_reason: null,
    }),
    textChoice: (index, text, tokens) => {
      const said = parserOf(index)?.push(text) ?? { content: text, calls: [] };
      const silent = said.content === '' && said.calls.length === 0;
      if (silent && !logprobs) return null;
      return {
        index,
        delta: {
          ...(said.content === '' && said.calls.length > 0 ? {} : { content: said.content }),
          ...(said.calls.length === 0 ? {} : { tool_calls: said.calls }),
        },
        logprobs: content(tokens),
        finish_reason: null,
      };
    },
    finalChoice: (index, reason) => {
      const rest = parserOf(index)?.end() ?? { content: '', calls: [] };
      return {
        index,
        delta: {
          ...(rest.content === '' ? {} : { content: rest.content }),
          ...(rest.calls.length === 0 ? {} : { tool_calls: rest.calls }),
        },
        logprobs: null,
        finish_reason: finish(index, reason),
      };
    },
    chunk: (choices) => ({ ...head, object: 'chat.completion.chunk', choices }),
    fullResponse: (choices, usage) => ({
      ...head,
      object: 'chat.completion',
      choices: choices.map(({ text, tokens, reason }, index) => ({
        index,
        message: message(text, parserOf(index)),
        logprobs: content(tokens),
        finish_reason: finish(index, reason),
      })),
      usage,
    }),
  };
}

function message(text: string, parser: ToolCallParser | null): object {
  if (parser === null) return { role: 'assistant', content: text, refusal: null };
  const parts = [parser.push(text), parser.end()];
  const said = parts.map((part) => part.content).join('');
  const calls = parts.flatMap((part) => part.calls).map(({ index: _, ...call }) => call);
  if (calls.length === 0) return { role: 'assistant', content: said, refusal: null };
  return {
    role: 'assistant',
    content: said.trim() === '' ? null : said,
    refusal: null,
    tool_calls: calls,
  };
}

/** A token's text; one that is part of a character is written as OpenAI does, `bytes:\xe2\x80`. */
function tokenName(tokenizer: Tokenizer, id: number): string {
  const bytes = tokenizer.bytes(id);
  const text = tokenizer.vocabulary.text(id);
  if (!text.includes('\ufffd')) return text;
  const escaped = Array.from(bytes, (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
  return `bytes:${escaped}`;
}
