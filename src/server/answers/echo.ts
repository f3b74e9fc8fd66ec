// `echo` of completions: an answer that begins with its prompt, scored where logprobs are asked for.
import type { RunEvent } from '../../engines/runner.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { TokenShow } from '../prompt/tokens.ts';
import type { SampledToken } from './response-format.ts';

export interface Echoed {
  text: string;
  /** None where no logprobs were asked for. */
  tokens: SampledToken[];
}

/** Gathers the prompts of one request as they run. */
export class Echoes {
  readonly #texts: readonly (string | null)[];
  readonly #choices: number;
  readonly #tokenizer: Tokenizer;
  readonly #prompts: SampledToken[][];
  readonly #told = new Set<number>();

  /**
   * @param texts of each prompt; null where it was given as token ids
   * @param choices texts generated after each
   */
  constructor(texts: readonly (string | null)[], choices: number, tokenizer: Tokenizer) {
    this.#texts = texts;
    this.#choices = choices;
    this.#tokenizer = tokenizer;
    this.#prompts = texts.map(() => []);
  }

  see(event: RunEvent): void {
    if (event.type !== 'ran' || !event.prompt) return;
    const prompt = this.#prompts[Math.floor(event.choice / this.#choices)];
    event.tokens.forEach((id, i) => {
      const score = event.scores?.[i];
      prompt?.push({ id, text: '', logprob: score?.logprob ?? null, top: score?.top ?? [] });
    });
  }

  /** What the choice begins with; null once it was told. Its prompt has run. */
  take(choice: number, scored: boolean): Echoed | null {
    if (this.#told.has(choice)) return null;
    this.#told.add(choice);
    const index = Math.floor(choice / this.#choices);
    const given = this.#texts[index] ?? null;
    const show = new TokenShow(this.#tokenizer);
    const tokens = (this.#prompts[index] ?? []).map((one) => ({
      ...one,
      text: show.push(one.id).text,
    }));
    const last = tokens.at(-1);
    if (last !== undefined) last.text += show.end();
    const text = tokens.map((one) => one.text).join('');
    const first = tokens[0];
    // A BOS that the server has put in front is no part of the text that was sent.
    if (given !== null && first !== undefined && text.slice(first.text.length) === given) {
      first.text = '';
    }
    return { text: given ?? text, tokens: scored ? tokens : [] };
  }
}
