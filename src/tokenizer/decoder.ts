// Ids to text, one id at a time, without ever splitting a UTF-8 character.
import type { TokenBytes } from './bytes.ts';

export interface DecodeOptions {
  /** Leave special tokens (`<|im_end|>`, ...) out of the text. Default true. */
  skipSpecial?: boolean;
  /** Texts of special tokens that stay in the text all the same; others of this list mean nothing. */
  keep?: readonly string[];
  /**
   * The ids begin a text, so SentencePiece's dummy leading space is dropped. Default true for `decode`,
   * false for `decoder`, which continues a prompt.
   */
  start?: boolean;
}

/**
 * Text of a stream of ids. `push` returns what became complete: bytes of a character that is still
 * open are held back, bytes that can be no character become U+FFFD.
 */
export class TextDecoderOfTokens {
  readonly #tokens: TokenBytes;
  readonly #special: (id: number) => boolean;
  readonly #skipSpecial: boolean;
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #dropSpace: boolean;

  constructor(
    tokens: TokenBytes,
    special: (id: number) => boolean,
    { skipSpecial = true, start = false }: DecodeOptions = {},
  ) {
    this.#tokens = tokens;
    this.#special = special;
    this.#skipSpecial = skipSpecial;
    this.#dropSpace = start && tokens.dropsFirstSpace;
  }

  push(id: number): string {
    if (this.#skipSpecial && this.#special(id)) return '';
    let bytes = this.#tokens.bytes[id];
    if (bytes === undefined || bytes.length === 0) return '';
    if (this.#dropSpace) {
      this.#dropSpace = false;
      if (bytes[0] === 0x20) bytes = bytes.subarray(1);
    }
    return this.#decoder.decode(bytes, { stream: true });
  }

  /** The rest: U+FFFD when the stream ended inside a character, otherwise nothing. */
  end(): string {
    return this.#decoder.decode();
  }
}
