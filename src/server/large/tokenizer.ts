// A tokenizer whose long texts are worked on by a thread.
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import { LARGE_BYTES, type WorkPool } from './pool.ts';

const never = () => new AbortController().signal;

/** @param kit the tokenizer's own in the threads */
export function withPool(tokenizer: Tokenizer, pool: WorkPool, kit: number): Tokenizer {
  return {
    ...tokenizer,
    encode(text, options = {}) {
      if (text.length < LARGE_BYTES) return tokenizer.encode(text, options);
      const { bos = false, most = null } = options;
      return pool.run({ kind: 'encode', kit, text, bos, most }, never());
    },
    encodeFile: (file, options) => tokenizer.encodeFile(file, options),
    decode: (ids, options) => tokenizer.decode(ids, options),
    decoder: (options) => tokenizer.decoder(options),
    bytes: (id) => tokenizer.bytes(id),
  };
}
