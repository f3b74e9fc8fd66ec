// The two shapes of an answer, text completion and chat completion, whole and in chunks.
import type { Tokenizer } from '../planner/tokenizer.ts';

/** One sampled token as the client is told of it. */
export interface SampledToken {
  id: number;
  /** Text that became certain with this token; may be empty, may hold earlier tokens' text. */
  text: string;
  /** Natural logarithm of the probability that the model gave it. */
  logprob: number;
  /** The likeliest tokens at this place, best first. */
  top: readonly { id: number; logprob: number }[];
}

export type FinishReason = 'stop' | 'length';

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

export interface ReplyHead {
  id: string;
  created: number;
  model: string;
  /** Names the contract: two servers with the same fingerprint compute the same thing. */
  system_fingerprint: string;
}

/** How one endpoint words its answers. */
export interface Reply {
  /** What opens a stream, before any text. */
  opening(): object | null;
  /** A choice that carries text, and logprobs where they were asked for. */
  delta(text: string, tokens: readonly SampledToken[]): object;
  /** The choice that ends a stream. */
  closing(reason: FinishReason): object;
  /** A chunk of a stream around its choices. */
  chunk(choices: readonly object[]): object;
  /** The whole answer. */
  whole(text: string, tokens: readonly SampledToken[], reason: FinishReason, usage: Usage): object;
}

/** `/v1/completions`. `logprobs`: how many alternatives a token, or null for none at all. */
export function completionReply(
  head: ReplyHead,
  tokenizer: Tokenizer,
  logprobs: number | null,
): Reply {
  let offset = 0;
  const choice = (
    text: string,
    tokens: readonly SampledToken[],
    reason: FinishReason | null,
  ): object => ({
    index: 0,
    text,
    logprobs: logprobs === null ? null : lists(tokens),
    finish_reason: reason,
  });
  function lists(tokens: readonly SampledToken[]): object {
    const at = tokens.map((token) => {
      const here = offset;
      offset += token.text.length;
      return here;
    });
    return {
      tokens: tokens.map(({ id }) => tokenName(tokenizer, id)),
      token_logprobs: tokens.map(({ logprob }) => logprob),
      top_logprobs: tokens.map(({ id, logprob, top }) =>
        Object.fromEntries(
          (logprobs === 0 ? [{ id, logprob }] : top).map((one) => [
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
    opening: () => null,
    delta: (text, tokens) => choice(text, tokens, null),
    closing: (reason) => choice('', [], reason),
    chunk: around,
    whole: (text, tokens, reason, usage) => ({
      ...around([choice(text, tokens, reason)]),
      usage,
    }),
  };
}

/** `/v1/chat/completions`. `logprobs`: whether to report any. */
export function chatReply(head: ReplyHead, tokenizer: Tokenizer, logprobs: boolean): Reply {
  const one = (id: number, logprob: number) => ({
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
  return {
    opening: () => ({
      index: 0,
      delta: { role: 'assistant', content: '', refusal: null },
      logprobs: null,
      finish_reason: null,
    }),
    delta: (text, tokens) => ({
      index: 0,
      delta: { content: text },
      logprobs: content(tokens),
      finish_reason: null,
    }),
    closing: (reason) => ({ index: 0, delta: {}, logprobs: null, finish_reason: reason }),
    chunk: (choices) => ({ ...head, object: 'chat.completion.chunk', choices }),
    whole: (text, tokens, reason, usage) => ({
      ...head,
      object: 'chat.completion',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: text, refusal: null },
          logprobs: content(tokens),
          finish_reason: reason,
        },
      ],
      usage,
    }),
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
