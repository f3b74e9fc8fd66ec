// The `lockstep.sources` field: which spans of the text each segment of an answer retrieved.
import type { Contract } from '../../contract/schema.ts';
import {
  type RetrievedSpan,
  retrievedSpans,
  retrievedTokens,
  withoutFilling,
} from '../../engines/retrieved-tokens.ts';
import type { RunEvent } from '../../engines/runner.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { MessageSpan } from '../prompt/message-spans.ts';
import { TokenShow } from '../prompt/tokens.ts';

/** Most spans that are reported for a segment. */
const MOST_SPANS = 64;

/** What one segment of an answer retrieved. Offsets count UTF-16 code units. */
export interface Source {
  /** The segment's index in the sequence. */
  segment: number;
  /** The boundary at which it was chosen: tokens before the segment. */
  at: number;
  /** The first of the answer's tokens in this segment, counted from 0. */
  token: number;
  /** (layer, head) pairs that retrieve. */
  heads: number;
  /** All that could be retrieved was: there was nothing to choose. */
  whole: boolean;
  /** Recipe `anchors`: tokens from the sinks on that fill up what no anchor chose; not among the spans. */
  filled: [number, number] | null;
  /** The strongest first. */
  spans: SourceSpan[];
  /** Spans beyond MOST_SPANS, which are left out. */
  more: number;
}

export interface SourceSpan {
  /** Half-open range of token positions. */
  tokens: [number, number];
  /** Mean share of the pairs that took its tokens. */
  weight: number;
  text: string;
  /** Half-open range of the prompt's text, or of the answer's text after it. */
  chars: [number, number];
  /** Where the span falls into a message: the one that holds most of it. */
  message: { index: number; chars: [number, number] } | null;
}

/** What a request with `lockstep.sources` brings. */
export interface SourcesRequest {
  /** The prompt as text; null where it was given as token ids. */
  text: string | null;
  messageSpans: readonly MessageSpan[];
}

/** Follows one generation. It holds the last boundary and the text; nothing is summed up unread. */
export class Sources {
  readonly #request: SourcesRequest;
  readonly #contract: Contract;
  readonly #text: SequenceText;
  #boundaries = 0;
  #tokens = 0;
  #pending: (RunEvent & { type: 'ran' })['boundary'] = null;
  #all: Source[] | null = [];
  #told = 0;
  #silent = false;

  constructor(request: SourcesRequest, tokenizer: Tokenizer, contract: Contract) {
    this.#request = request;
    this.#contract = contract;
    this.#text = new SequenceText(tokenizer, request.text, contract.tokenizer.bos);
  }

  see(event: RunEvent): void {
    if (event.type === 'ran') {
      for (const id of event.tokens) this.#text.push(id);
      if (event.boundary === null) return;
      this.#boundaries += 1;
      this.#pending = event.boundary;
    } else if (event.type === 'token') {
      this.#begin();
      this.#tokens += 1;
    }
  }

  /** All of them; null: the engine does not tell what it retrieves. */
  get all(): Source[] | null {
    return this.#all;
  }

  /** Those that were not reported yet, or nothing. */
  take(): { sources?: Source[] | null } {
    if (this.#all === null) {
      const first = !this.#silent;
      this.#silent = true;
      return first ? { sources: null } : {};
    }
    const fresh = this.#all.slice(this.#told);
    this.#told = this.#all.length;
    return fresh.length === 0 ? {} : { sources: fresh };
  }

  /** A token of the answer: the segment it is in retrieved at the last boundary. */
  #begin(): void {
    const boundary = this.#pending;
    if (boundary === null || this.#all === null) return;
    this.#pending = null;
    if (boundary.retrieved === null) {
      this.#all = null;
      return;
    }
    const { at, retrieved } = boundary;
    const { carry, retrieval } = this.#contract;
    const stored = Math.max(0, at - carry.sinks);
    const eligible = Math.max(0, stored - (carry.heads === 'all' ? carry.size : 0));
    const whole =
      retrieved.some(({ positions }) => positions.length > 0) && eligible <= retrieval.size;
    const parts = retrieval.recipe === 'anchors' && !whole ? withoutFilling(retrieved) : null;
    const found = retrievedTokens({ at, retrieved: parts?.chosen ?? retrieved }, carry.sinks);
    const spans = retrievedSpans(found);
    const messageSpans = this.#text.faithful ? this.#request.messageSpans : [];
    this.#all.push({
      segment: this.#boundaries,
      at,
      token: this.#tokens,
      heads: found.heads,
      whole,
      filled: parts?.filled ? [carry.sinks, carry.sinks + parts.filled] : null,
      spans: spans.slice(0, MOST_SPANS).map((span) => this.#span(span, messageSpans)),
      more: Math.max(0, spans.length - MOST_SPANS),
    });
  }

  #span({ tokens, weight }: RetrievedSpan, messageSpans: readonly MessageSpan[]): SourceSpan {
    const chars = this.#text.range(tokens);
    const text = this.#text.slice(chars);
    const message = messageOf(messageSpans, chars);
    return { tokens, weight: Number(weight.toFixed(4)), text, chars, message };
  }
}

/** The part of a span that lies in the message which holds most of it. */
function messageOf(
  messageSpans: readonly MessageSpan[],
  [from, to]: [number, number],
): SourceSpan['message'] {
  let best: SourceSpan['message'] = null;
  let most = 0;
  for (const { message, at, length, within } of messageSpans) {
    const first = Math.max(from, at);
    const last = Math.min(to, at + length);
    if (last - first <= most) continue;
    most = last - first;
    best = { index: message, chars: [within + first - at, within + last - at] };
  }
  return best;
}

/** The text of a sequence and where each token's begins. */
class SequenceText {
  readonly #show: TokenShow;
  readonly #prompt: string | null;
  readonly #bos: number | null;
  readonly #tokenizer: Tokenizer;
  /** Where each token's text ends. */
  readonly #ends: number[] = [];
  #text = '';

  constructor(tokenizer: Tokenizer, prompt: string | null, bos: number | null) {
    this.#tokenizer = tokenizer;
    this.#show = new TokenShow(tokenizer);
    this.#prompt = prompt;
    this.#bos = bos;
  }

  push(id: number): void {
    const { text } = this.#show.push(id);
    // A BOS that the contract adds is not in the text that was given.
    const added = this.#ends.length === 0 && id === this.#bos && this.#prompt !== null;
    const written = added && this.#prompt?.startsWith(this.#tokenizer.vocabulary.text(id)) === true;
    this.#text += added && !written ? '' : text;
    this.#ends.push(this.#text.length);
  }

  /** Whether offsets are those of the given prompt: some tokenizers normalise a text. */
  get faithful(): boolean {
    const prompt = this.#prompt;
    if (prompt === null) return false;
    const known = Math.min(prompt.length, this.#text.length);
    return this.#text.slice(0, known) === prompt.slice(0, known);
  }

  range([from, to]: [number, number]): [number, number] {
    return [this.#ends[from - 1] ?? 0, this.#ends[to - 1] ?? this.#text.length];
  }

  slice([from, to]: [number, number]): string {
    return this.#text.slice(from, to);
  }
}
