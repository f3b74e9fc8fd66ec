// What a request changes in the model's logits before a token is drawn: vLLM's steps, in vLLM's order.

export interface LogitsOptions {
  /** Added to the logits of these ids. */
  bias?: Readonly<Record<string, number>> | undefined;
  /** No id that ends the text is drawn before this many tokens. */
  minTokens?: number | undefined;
  /** Logits of ids in prompt or answer: divided by it where positive, else multiplied. 1: as they are. */
  repetitionPenalty?: number | undefined;
  /** Taken off the logit of an id, times how often it is in the answer. */
  frequencyPenalty?: number | undefined;
  /** Taken off the logit of an id that is in the answer. */
  presencePenalty?: number | undefined;
  /** Which ids may come next, by the grammar that the text is held to. */
  grammar?: GrammarMatcher | undefined;
}

/** Follows a text that is held to a grammar, token by token. */
export interface GrammarMatcher {
  /** Set the logits of ids that may not come next to minus infinity. */
  mask(logits: Float32Array): void;
  /** This id came. */
  accept(id: number): void;
  /** Free it. Idempotent. */
  close(): void;
}

/** Changes the logits of one answer. */
export class LogitsProcessor {
  readonly #bias: readonly (readonly [id: number, bias: number])[];
  readonly #ends: readonly number[];
  readonly #minTokens: number;
  readonly #repetition: number;
  readonly #frequency: number;
  readonly #presence: number;
  readonly #grammar: GrammarMatcher | undefined;
  readonly #prompt: ReadonlySet<number>;
  /** How often each id stands in the answer. */
  readonly #counts = new Map<number, number>();
  readonly #idle: boolean;
  #tokens = 0;

  /**
   * @param prompt ids before the answer
   * @param ends ids that end it
   */
  constructor(options: LogitsOptions, prompt: ArrayLike<number>, ends: Iterable<number> = []) {
    this.#bias = Object.entries(options.bias ?? {}).map(([id, bias]) => [Number(id), bias]);
    this.#ends = [...ends];
    this.#minTokens = options.minTokens ?? 0;
    this.#repetition = options.repetitionPenalty ?? 1;
    this.#frequency = options.frequencyPenalty ?? 0;
    this.#presence = options.presencePenalty ?? 0;
    this.#grammar = options.grammar;
    this.#prompt = new Set(this.#repetition === 1 ? [] : Array.from(prompt));
    this.#idle =
      this.#bias.length === 0 &&
      this.#minTokens === 0 &&
      this.#repetition === 1 &&
      this.#frequency === 0 &&
      this.#presence === 0 &&
      this.#grammar === undefined;
  }

  /** Logits [vocabulary] to draw from: a copy, or the same where nothing changes. Sums are rounded to float32. */
  apply(logits: Float32Array): Float32Array {
    if (this.#idle) return logits;
    const own = logits.slice();
    this.#grammar?.mask(own);
    for (const [id, bias] of this.#bias) own[id] = (own[id] as number) + bias;
    if (this.#tokens < this.#minTokens) {
      for (const id of this.#ends) own[id] = Number.NEGATIVE_INFINITY;
    }
    if (this.#repetition !== 1) {
      for (const id of this.#prompt) this.#repeat(own, id);
      for (const id of this.#counts.keys()) if (!this.#prompt.has(id)) this.#repeat(own, id);
    }
    if (this.#frequency === 0 && this.#presence === 0) return own;
    for (const [id, count] of this.#counts) {
      own[id] = (own[id] as number) - this.#frequency * count;
      own[id] = (own[id] as number) - this.#presence;
    }
    return own;
  }

  /** This token was drawn. */
  take(id: number): void {
    if (this.#idle) return;
    this.#tokens += 1;
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
    this.#grammar?.accept(id);
  }

  #repeat(logits: Float32Array, id: number): void {
    const logit = logits[id] as number;
    logits[id] = logit > 0 ? logit / this.#repetition : logit * this.#repetition;
  }
}
