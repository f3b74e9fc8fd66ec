// vLLM's own protocol: a run as a body of its /v1/completions, and its event stream as tokens.
import { createParser } from 'eventsource-parser';
import { z } from 'zod';
import { LockstepError } from '../../errors.ts';
import type { RunRequest, SegmentSpans } from '../runner.ts';
import type { Alternative, Sampled } from '../sampling.ts';
import { type Counted, StreamCount } from './count.ts';
import { REFUSED_FIX } from './failure.ts';

/** Characters of one event: tokens with 20 alternatives each, gathered, are far below it. */
const MAX_EVENT_CHARS = 8 * 1024 * 1024;

/** A whole answer may be this large. */
const MOST_ANSWER_BYTES = 256 * 1024 * 1024;

/** Tokens a chunk of an answer that nobody watches may gather: fewer events to frame and to parse. */
const STREAM_INTERVAL = 32;

/** Some tokens of one choice, as vLLM reported them. */
export interface TokenChunk {
  choice: number;
  tokens: ({ top: Alternative[] } & Alternative)[];
  /** Set on the choice's last chunk. */
  reason: 'stop' | 'length' | null;
}

/**
 * A run as vLLM's request. Every sampling parameter is named, so that nothing comes from a
 * generation_config.json that this server has not read.
 */
export function completionBody(request: RunRequest, ends: readonly number[]): object {
  const { extra = {} } = request;
  return {
    // Without a name vLLM runs its base.
    ...(request.adapter === undefined ? {} : { model: request.adapter }),
    prompt: Array.from(request.prompt),
    // vLLM writes at least one token.
    max_tokens: Math.max(1, request.maxTokens),
    temperature: request.temperature ?? 1,
    top_p: request.topP ?? 1,
    top_k: 0,
    min_p: 0,
    repetition_penalty: 1,
    presence_penalty: 0,
    frequency_penalty: 0,
    ...extra,
    ...(request.seed == null ? {} : { seed: request.seed }),
    // Node decides where a text stops. vLLM gets the stop strings too, so that it does not generate past them.
    stop: request.stop,
    // What vLLM itself takes for ends, from files that the contract may not follow, is left out.
    ...(extra.ignore_eos ? {} : { stop_token_ids: ends, ignore_eos: true }),
    logprobs: request.logprobs ?? null,
    return_token_ids: true,
    return_tokens_as_token_ids: true,
    // vLLM tells of segments, and of a prompt's tokens, in whole answers alone.
    stream: !isWhole(request),
    // Each event then says how many tokens came so far: none can be lost, doubled or moved unseen.
    ...(isWhole(request)
      ? {}
      : { stream_options: { include_usage: true, continuous_usage_stats: true } }),
    ...(request.scored ? { prompt_logprobs: request.logprobs ?? 0 } : {}),
    ...(request.spans ? { vllm_xargs: { lockstep_segments: 1 } } : {}),
    ...(request.streamed || request.traced ? {} : { stream_interval: STREAM_INTERVAL }),
  };
}

/** Whether vLLM is to answer at once. */
export function isWhole(request: RunRequest): boolean {
  return request.spans === true || request.scored === true;
}

/**
 * Read an event stream of vLLM, of one text, to its end.
 *
 * @param vocabulary ids are below it
 * @param prompt token ids of the request's prompt
 * @throws LS_VLLM_FAILED what vLLM reported in the stream; LS_VLLM_PROTOCOL bytes that are no such
 *   stream, events that are missing, doubled, out of order or another request's; LS_VLLM_DIED an end
 *   before its time
 */
export async function* readTokens(
  body: AsyncIterable<Uint8Array>,
  vocabulary: number,
  prompt: ArrayLike<number>,
): AsyncGenerator<TokenChunk, void> {
  const count = new StreamCount(prompt);
  let ended = false;
  try {
    for await (const data of readEvents(body)) {
      if (data === '[DONE]') break;
      const event = parsed(data);
      if (event.choices.length > 1) {
        throw malformed(`an event with ${event.choices.length} choices`);
      }
      event.choices.forEach(checkFields);
      const chunk = event.choices.map((one) => tokensOf(one, 1, vocabulary))[0];
      const wrong = count.take(event, chunk?.tokens.length ?? 0);
      if (wrong !== null) throw malformed(wrong);
      if (chunk === undefined) continue;
      if (ended) throw malformed('more of a text after its end');
      ended = chunk.reason !== null;
      yield chunk;
    }
  } catch (error) {
    // The answer is whole; whatever its connection died of, nothing is missing.
    if (ended) return;
    throw error;
  }
  if (!ended) throw early('the end of its stream within a text');
}

const span = z.tuple([z.int().min(0), z.int().min(0)]);
const segmentSpans = z.object({ segments: z.array(span), open: span.nullish() });
const score = z.record(z.string().regex(/^\d+$/), z.object({ logprob: z.number() }));
const scores = z.array(score.nullable());

export interface WholeAnswer {
  chunks: TokenChunk[];
  /** Where it was asked for. */
  spans: SegmentSpans | null;
  /** Of each token of the prompt, where they were asked for; null for the first. */
  scores: (Sampled | null)[] | null;
}

/**
 * Read a whole answer of vLLM: with the segments that its scheduler cut, with what it thought of the
 * prompt's tokens.
 *
 * @throws as `readTokens`
 */
export async function readWhole(
  body: AsyncIterable<Uint8Array>,
  request: RunRequest,
  vocabulary: number,
): Promise<WholeAnswer> {
  const choices = request.extra?.n ?? 1;
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of body) {
    size += part.length;
    if (size > MOST_ANSWER_BYTES) throw malformed(`more than ${MOST_ANSWER_BYTES} bytes`);
    parts.push(part);
  }
  const answer = parsed(Buffer.concat(parts).toString('utf8'));
  const chunks = answer.choices.map((one) => tokensOf(one, choices, vocabulary));
  const unfinished = chunks.filter(({ reason }) => reason === null).length;
  if (chunks.length !== choices || unfinished > 0) throw early('a part of it');
  return {
    chunks,
    spans: request.spans ? spansIn(answer) : null,
    scores: request.scored ? scoresIn(answer, request) : null,
  };
}

function spansIn(answer: WireChunk): SegmentSpans {
  const told = segmentSpans.safeParse(answer.kv_transfer_params?.lockstep);
  if (!told.success) throw malformed('an answer without its segments');
  const { segments, open } = told.data;
  return { segments, open: open ?? null };
}

function scoresIn(answer: WireChunk, { prompt, logprobs }: RunRequest): (Sampled | null)[] {
  const told = scores.safeParse(answer.choices[0]?.prompt_logprobs);
  if (!told.success || told.data.length !== prompt.length) {
    throw malformed('an answer without the logprobs of its prompt');
  }
  return told.data.map((entries, i) => {
    if (entries === null) return null;
    const id = prompt[i] as number;
    const top = Object.entries(entries).map(([name, one]) => ({ id: Number(name), ...one }));
    top.sort((a, b) => b.logprob - a.logprob || a.id - b.id);
    const own = top.find((one) => one.id === id);
    if (own === undefined) throw malformed('a token of the prompt without its logprob');
    return { ...own, top: top.slice(0, logprobs ?? 0) };
  });
}

/** The `data` of server-sent events, strictly: a line that is none of their fields is no such stream. */
async function* readEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<string, void> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const events: string[] = [];
  let bad: LockstepError | null = null;
  const parser = createParser({
    // Events after a malformed line in the same packet are not used either.
    onEvent: ({ data }) => bad === null && events.push(data),
    onError: ({ type, line }) => {
      bad ??= malformed(
        type === 'max-buffer-size-exceeded'
          ? `an event of more than ${MAX_EVENT_CHARS} characters`
          : quote(line ?? type),
      );
    },
    maxBufferSize: MAX_EVENT_CHARS,
  });
  for await (const bytes of body) {
    let text: string;
    try {
      text = decoder.decode(bytes, { stream: true });
    } catch (cause) {
      throw malformed('bytes that are not UTF-8', cause);
    }
    parser.feed(text);
    yield* events.splice(0);
    if (bad !== null) throw bad;
  }
}

interface WireChunk extends Counted {
  error?: { message?: unknown; code?: unknown };
  choices: WireChoice[];
  kv_transfer_params?: { lockstep?: unknown } | null;
}

interface WireChoice {
  prompt_token_ids?: unknown;
  index?: unknown;
  token_ids?: unknown;
  finish_reason?: unknown;
  prompt_logprobs?: unknown;
  logprobs?: {
    token_logprobs?: unknown[];
    top_logprobs?: (Record<string, unknown> | null)[];
  } | null;
}

function parsed(data: string): WireChunk {
  let chunk: WireChunk;
  try {
    chunk = JSON.parse(data) as WireChunk;
  } catch (cause) {
    throw malformed(quote(data), cause);
  }
  if (chunk?.error !== undefined) throw reported(chunk.error);
  if (!Array.isArray(chunk?.choices)) throw malformed(quote(data));
  return chunk;
}

/** Fields of a choice in a stream (vLLM 0.32, entrypoints/openai/completion/protocol.py). */
const REQUIRED = ['index', 'logprobs', 'finish_reason', 'token_ids'];
const FIELDS = new Set([...REQUIRED, 'text', 'stop_reason', 'prompt_token_ids']);

/**
 * What is missing inside an event can leave JSON: `"logprobs":null,"finish_reason":"stop"` without its
 * middle is `"lason":"stop"`.
 */
function checkFields(choice: WireChoice): void {
  const names = Object.keys(choice ?? {});
  const missing = REQUIRED.find((name) => !names.includes(name));
  if (missing !== undefined) throw malformed(`a choice without its ${missing}`);
  const other = names.find((name) => !FIELDS.has(name));
  if (other !== undefined) throw malformed(`a choice with a field ${quote(other)}`);
}

/** What vLLM says in a stream: some requests it judges only once it has begun to answer. */
function reported({ message, code }: NonNullable<WireChunk['error']>): LockstepError {
  const words = String(message ?? 'no message')
    .slice(0, 500)
    .trim();
  if (code === 400 || code === 422) {
    return new LockstepError('LS_VLLM_REFUSED', `vLLM refuses the request: ${words}`, {
      fix: REFUSED_FIX,
    });
  }
  return new LockstepError('LS_VLLM_FAILED', `expected tokens from vLLM, got its error: ${words}`, {
    fix: 'Read the log of vLLM: lockstep serve --log info',
  });
}

function tokensOf(wire: WireChoice, choices: number, vocabulary: number): TokenChunk {
  const choice = wire?.index;
  if (typeof choice !== 'number' || !Number.isInteger(choice) || choice < 0 || choice >= choices) {
    throw malformed(`choice ${String(choice)} of ${choices}`);
  }
  const ids = wire.token_ids ?? [];
  if (!Array.isArray(ids)) throw malformed('token_ids that are no list');
  const tokens = ids.map((id: unknown, i) => {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id >= vocabulary) {
      throw malformed(`token id ${String(id).slice(0, 20)} of a vocabulary of ${vocabulary}`);
    }
    return { id, ...probabilities(wire, i) };
  });
  const reason = wire.finish_reason ?? null;
  if (reason === 'stop' || reason === 'length' || reason === null) {
    return { choice, tokens, reason };
  }
  throw early(`finish_reason ${String(reason).slice(0, 40)}`);
}

function probabilities(wire: WireChoice, i: number): { logprob: number; top: Alternative[] } {
  if (wire.logprobs == null) return { logprob: Number.NaN, top: [] };
  const logprob = wire.logprobs.token_logprobs?.[i];
  if (typeof logprob !== 'number') throw malformed('a token without its logprob');
  const top = Object.entries(wire.logprobs.top_logprobs?.[i] ?? {}).map(([name, value]) => {
    const id = Number(/^token_id:(\d+)$/.exec(name)?.[1]);
    if (!Number.isInteger(id) || typeof value !== 'number') throw malformed(quote(name));
    return { id, logprob: value };
  });
  top.sort((a, b) => b.logprob - a.logprob || a.id - b.id);
  return { logprob, top };
}

function malformed(got: string, cause?: unknown): LockstepError {
  return new LockstepError('LS_VLLM_PROTOCOL', `expected vLLM's event stream, got ${got}.`, {
    fix: 'Check what is between this server and vLLM, and that it is vLLM 0.32.',
    ...(cause === undefined ? {} : { cause }),
  });
}

function early(how: string): LockstepError {
  return new LockstepError(
    'LS_VLLM_DIED',
    `expected vLLM to finish its answer, got ${how}. The text so far is incomplete.`,
    { fix: 'Ask again; a supervised vLLM is being restarted.' },
  );
}

function quote(text: string): string {
  return JSON.stringify(text.length <= 80 ? text : `${text.slice(0, 80)}…`);
}
