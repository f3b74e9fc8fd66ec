// Text out of tokens, ended before the first stop string, which may span tokens.

/** Turns ids into text as they come; characters may span ids. */
export interface TextDecoder {
  push(id: number): string;
  /** What was held back. */
  end(): string;
}

/** Text that is now sure, and whether a stop string follows it. */
export interface SafeText {
  text: string;
  stopped: boolean;
}

/** The text of one generation, as far as no stop string can begin in it any more. */
export class StopStringBuffer {
  readonly #decoder: TextDecoder;
  readonly #stops: readonly string[];
  #buffer = '';

  constructor(decoder: TextDecoder, stops: readonly string[]) {
    this.#decoder = decoder;
    this.#stops = stops;
  }

  /** Take a token that belongs to the text. */
  push(id: number): SafeText {
    this.#buffer += this.#decoder.push(id);
    const found = firstStop(this.#buffer, this.#stops);
    const sure = found >= 0 ? found : safeLength(this.#buffer, this.#stops);
    const text = this.#buffer.slice(0, sure);
    this.#buffer = this.#buffer.slice(sure);
    return { text, stopped: found >= 0 };
  }

  /** No token follows: what was held back. */
  end(): SafeText {
    const rest = this.#buffer + this.#decoder.end();
    this.#buffer = '';
    const found = firstStop(rest, this.#stops);
    return found < 0
      ? { text: rest, stopped: false }
      : { text: rest.slice(0, found), stopped: true };
  }
}

/** Where the earliest stop string begins, or -1. */
function firstStop(text: string, stops: readonly string[]): number {
  const found = stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
  return found.length === 0 ? -1 : Math.min(...found);
}

/** How much of `text` no stop string can begin in any more. */
function safeLength(text: string, stops: readonly string[]): number {
  let sure = text.length;
  for (const stop of stops) {
    const longest = Math.min(stop.length - 1, text.length);
    for (let size = longest; size > text.length - sure; size--) {
      if (stop.startsWith(text.slice(text.length - size))) sure = text.length - size;
    }
  }
  return sure;
}
