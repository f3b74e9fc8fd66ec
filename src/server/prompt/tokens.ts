// Texts as the ids that the model is given, and ids as texts to show.
import type { Contract } from '../../contract/schema.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { invalid } from '../errors.ts';

/** One token to show. Texts of a sequence, joined, are its text: a split character shows at its end. */
export interface ShownToken {
  id: number;
  text: string;
  special?: true;
}

/** Shows tokens one after the other. */
export class TokenShow {
  readonly #decoder: ReturnType<Tokenizer['decoder']>;
  readonly #special: (id: number) => boolean;

  constructor(tokenizer: Tokenizer) {
    this.#decoder = tokenizer.decoder({ skipSpecial: false, start: true });
    this.#special = (id) => tokenizer.vocabulary.special(id);
  }

  push(id: number): ShownToken {
    const text = this.#decoder.push(id);
    return this.#special(id) ? { id, text, special: true } : { id, text };
  }

  end(): string {
    return this.#decoder.end();
  }
}

/**
 * Ids of a text as the contract starts a sequence: with BOS where it says so, and never twice (many
 * chat templates write BOS themselves).
 *
 * @param most of a longer text, only so many ids as show that it is longer
 */
export async function encodePrompt(
  text: string,
  tokenizer: Pick<Tokenizer, 'encode'>,
  contract: Contract,
  most?: number,
): Promise<Int32Array> {
  const { bos } = contract.tokenizer;
  const ids = await tokenizer.encode(text, most === undefined ? {} : { most });
  if (bos === null || ids[0] === bos) return ids;
  const all = new Int32Array(ids.length + 1);
  all[0] = bos;
  all.set(ids, 1);
  return all;
}

/**
 * Token ids from a request, checked against the vocabulary.
 *
 * @throws HttpError 400 that names the first id outside of it
 */
export function checkIds(ids: readonly number[], field: string, size: number): Int32Array {
  const at = ids.findIndex((id) => id >= size);
  if (at >= 0) {
    throw invalid(
      `${field}[${at}]`,
      `\`${field}[${at}]\`: expected a token id below ${size}, got ${ids[at]}.`,
    );
  }
  return Int32Array.from(ids);
}
