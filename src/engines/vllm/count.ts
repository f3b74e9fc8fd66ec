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
 * Keeps count of a stream of one text. An event that was lost, doubled or moved, or that belongs to
 * another request, is well formed: only its count and its id show it. With several texts in one stream,
 * counts that agree by accident would hide some such events. So each text has its own stream.
 */
export class StreamCount {
  readonly #prompt: ArrayLike<number>;
  #tokens = 0;
  #id: unknown = null;
  #begun = false;

  /** @param prompt token ids of the request's prompt */
  constructor(prompt: ArrayLike<number>) {
    this.#prompt = prompt;
  }

  /**
   * Take an event into the count.
   *
   * @param tokens how many it brings
   * @returns what is wrong with it, as words to follow "got"; null where nothing is
   */
  take({ id, usage, choices }: Counted, tokens: number): string | null {
    const prompt = choices?.[0]?.prompt_token_ids ?? null;
    if (this.#begun !== (prompt === null)) {
      return this.#begun ? 'its prompt twice' : 'a first event without the prompt it answers';
    }
    if (this.#begun && id !== this.#id) return 'an event of another request';
    if (prompt !== null && !this.#isPrompt(prompt)) return 'an answer to another prompt';
    this.#begun = true;
    this.#id = id;
    this.#tokens += tokens;
    if (usage?.completion_tokens !== this.#tokens) {
      return `an event that counts ${show(usage?.completion_tokens)} tokens where ${this.#tokens} were received: one is missing, duplicated or out of order`;
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
