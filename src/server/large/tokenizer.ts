// Encoding of long texts by a thread.
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { Ticket } from '../limits/admission-queue.ts';
import { LARGE_BYTES, type WorkPool } from './pool.ts';

/** What makes ids of a request's texts. */
export type Encoder = Pick<Tokenizer, 'encode'>;

/** Does work that waits for a thread in the turn of a request, and for as long as that may wait. */
export type Waiting = <T>(work: (signal: AbortSignal, ticket: Ticket) => Promise<T>) => Promise<T>;

/** @param kit the tokenizer's own in the threads */
export function encoderOf(
  tokenizer: Tokenizer,
  pool: WorkPool,
  kit: number,
  waiting: Waiting,
): Encoder {
  return {
    encode(text, options = {}) {
      if (text.length < LARGE_BYTES) return tokenizer.encode(text, options);
      const { bos = false, most = null } = options;
      return waiting((signal, ticket) =>
        pool.run({ kind: 'encode', kit, text, bos, most }, signal, ticket),
      );
    },
  };
}
