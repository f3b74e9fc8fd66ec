// One of the texts that vLLM generates: its segments, its stop strings, its end.
import type { PlannerSource, Segmenter } from '../../planner/index.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { RunEvent, RunRequest } from '../runner.ts';
import type { Alternative } from '../sampling.ts';
import { StopStringBuffer } from '../stop-strings.ts';

/** A token, and others that were likely in its place. */
type ReportedToken = { top: Alternative[] } & Alternative;

/** Turns one choice's tokens into events, as stepping an engine would. */
export class ChoiceText {
  readonly #choice: number;
  readonly #segmenter: Segmenter;
  readonly #text: StopStringBuffer;
  readonly #ends: ReadonlySet<number>;
  readonly #alternatives: number;
  readonly #most: number;
  #last: number | null = null;
  ended = false;

  /** @param segmenter is at the prompt's end; closed with this */
  constructor(
    choice: number,
    segmenter: Segmenter,
    { tokenizer, source }: { tokenizer: Tokenizer; source: PlannerSource },
    request: RunRequest,
  ) {
    this.#choice = choice;
    this.#segmenter = segmenter;
    const { keepSpecialTokens: keep, stop } = request;
    this.#text = new StopStringBuffer(tokenizer.decoder(keep === undefined ? {} : { keep }), stop);
    this.#ends = new Set(request.extra?.ignore_eos ? [] : source.contract.tokenizer.ends);
    this.#alternatives = request.logprobs ?? 0;
    this.#most = request.maxTokens;
  }

  /** What tokens add; nothing once the text has ended. */
  async *take(tokens: readonly ReportedToken[]): AsyncGenerator<RunEvent> {
    // vLLM writes a token even where none was asked for.
    if (this.ended || this.#most === 0) return;
    const shown = this.#withTexts(tokens);
    const ids = shown.map(({ token }) => token.id);
    // A token is run when the next one is sampled: the last one never is.
    const ran = this.#last === null ? ids.slice(0, -1) : [this.#last, ...ids.slice(0, -1)];
    this.#last = ids.at(-1) ?? this.#last;
    const start = this.#segmenter.position;
    const cuts = ran.length === 0 ? [] : await this.#segmenter.pushSoon(ran);
    for (const [i, { token, text }] of shown.entries()) {
      const before = i - shown.length + ran.length;
      if (before >= 0) yield this.#ran(start + before, ran[before] as number, cuts);
      const { id, logprob } = token;
      const top = token.top.slice(0, this.#alternatives);
      yield { choice: this.#choice, type: 'token', text, id, logprob, top };
    }
    if (this.ended) yield { choice: this.#choice, type: 'end', reason: 'stop', text: '' };
  }

  /** The tokens up to the text's end, and what each adds to it. */
  #withTexts(tokens: readonly ReportedToken[]): { token: ReportedToken; text: string }[] {
    const shown: { token: ReportedToken; text: string }[] = [];
    for (const token of tokens) {
      const ends = this.#ends.has(token.id);
      const { text, stopped } = ends ? this.#text.end() : this.#text.push(token.id);
      shown.push({ token, text });
      this.ended = ends || stopped;
      if (this.ended) break;
    }
    return shown;
  }

  #ran(from: number, id: number, cuts: readonly number[]): RunEvent {
    const boundary = cuts.includes(from + 1) ? { at: from + 1, retrieved: null } : null;
    const tokens = Int32Array.of(id);
    return { choice: this.#choice, type: 'ran', prompt: false, from, tokens, boundary };
  }

  /** vLLM sends no more of it. */
  *end(reason: 'stop' | 'length'): Generator<RunEvent> {
    if (this.ended) return;
    this.ended = true;
    const rest = this.#text.end();
    const how = rest.stopped ? 'stop' : reason;
    yield { choice: this.#choice, type: 'end', reason: how, text: rest.text };
  }

  close(): void {
    this.#segmenter.close();
  }
}
