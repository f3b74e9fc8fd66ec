// One of the texts that vLLM generates: its segments, its stop strings, its end.
import type { PlannerSource, Segmenter } from '../../planner/index.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { RunEvent, RunRequest } from '../runner.ts';
import type { Alternative } from '../sampling.ts';
import { StoppedText } from '../stop-strings.ts';

/** Turns one choice's tokens into events, as stepping an engine would. */
export class ChoiceText {
  readonly #choice: number;
  readonly #segmenter: Segmenter;
  readonly #text: StoppedText;
  readonly #ends: ReadonlySet<number>;
  readonly #alternatives: number;
  readonly #most: number;
  #last: number | null = null;
  ended = false;

  /** @param segmenter stands at the prompt's end; closed with this */
  constructor(
    choice: number,
    segmenter: Segmenter,
    { tokenizer, source }: { tokenizer: Tokenizer; source: PlannerSource },
    request: RunRequest,
  ) {
    this.#choice = choice;
    this.#segmenter = segmenter;
    const { keep, stop } = request;
    this.#text = new StoppedText(tokenizer.decoder(keep === undefined ? {} : { keep }), stop);
    this.#ends = new Set(request.extra?.ignore_eos ? [] : source.contract.tokenizer.ends);
    this.#alternatives = request.logprobs ?? 0;
    this.#most = request.maxTokens;
  }

  /** What a token adds; nothing once the text has ended. */
  *take(token: { top: Alternative[] } & Alternative): Generator<RunEvent> {
    // vLLM writes a token even where none was asked for.
    if (this.ended || this.#most === 0) return;
    const choice = this.#choice;
    // A token is run when the next one is sampled: the last one never is.
    if (this.#last !== null) {
      const from = this.#segmenter.position;
      const cut = this.#segmenter.push(this.#last);
      const boundary = cut ? { at: from + 1, retrieved: null } : null;
      const tokens = Int32Array.of(this.#last);
      yield { choice, type: 'ran', prompt: false, from, tokens, boundary };
    }
    this.#last = token.id;
    const ends = this.#ends.has(token.id);
    const { text, stopped } = ends ? this.#text.end() : this.#text.push(token.id);
    const top = token.top.slice(0, this.#alternatives);
    yield { choice, type: 'token', text, id: token.id, logprob: token.logprob, top };
    if (!ends && !stopped) return;
    this.ended = true;
    yield { choice, type: 'end', reason: 'stop', text: '' };
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
