// Whether a stream of vLLM has every event once and in order: each says how many tokens came so far.

/** What an event says beside its tokens. */
export interface Counted {
  /** The request's, the same in all of its events. */
  id?: unknown;
  /** The prompt, in the first event. */
  choices?: readonly { prompt_token_ids?: unknown }[];
  usage?: { prompt_tokens?: unknown; completion_tokens?: unknown } | null;
}

/**
 * Keeps count of one stream. An event that was lost, doubled or moved, or that belongs to another
 * request, is well formed: only its count and its id tell.
 */
export class StreamCount {
  readonly #prompt: ArrayLike<number>;
  readonly #seen: number[];
  #id: unknown = null;
  #begun = false;

  /** @param prompt token ids of the request's prompt */
  constructor(prompt: ArrayLike<number>, choices: number) {
    this.#prompt = prompt;
    this.#seen = Array(choices).fill(0);
  }

  /** Tokens of all choices so far. */
  get #all(): number {
    return this.#seen.reduce((sum, one) => sum + one, 0);
  }

  /**
   * Take an event's tokens into the count.
   *
   * @param chunks its choices: one, or none in the event that ends the count
   * @returns what is wrong with it, in words that go on from "got"; null where nothing is
   */
  take({ id, usage, choices }: Counted, chunks: readonly { choice: number; tokens: object[] }[]) {
    const prompt = choices?.[0]?.prompt_token_ids ?? null;
    if (!this.#begun && prompt === null) return 'a first event without the prompt it answers';
    if (this.#begun && id !== this.#id) return 'an event of another request';
    if (prompt !== null && !this.#isPrompt(prompt)) return 'an answer to another prompt';
    this.#begun = true;
    this.#id = id;
    if (chunks.length > 1) return `an event with ${chunks.length} choices`;
    const [chunk] = chunks;
    if (chunk !== undefined) {
      this.#seen[chunk.choice] = (this.#seen[chunk.choice] as number) + chunk.tokens.length;
    }
    const expected = chunk === undefined ? this.#all : this.#seen[chunk.choice];
    if (usage?.completion_tokens !== expected) {
      return `an event that counts ${show(usage?.completion_tokens)} tokens where ${expected} came: one is missing, doubled or out of order`;
    }
    if (usage?.prompt_tokens !== this.#prompt.length) {
      return `an event that counts ${show(usage?.prompt_tokens)} tokens of a prompt of ${this.#prompt.length}`;
    }
    return null;
  }

  #isPrompt(ids: unknown): boolean {
    if (!Array.isArray(ids) || ids.length !== this.#prompt.length) return false;
    return ids.every((id, i) => id === this.#prompt[i]);
  }
}

function show(value: unknown): string {
  return typeof value === 'number' ? String(value) : 'no';
}
