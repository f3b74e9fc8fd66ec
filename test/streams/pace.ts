// When the bytes of a stream come: at once, a few at a time, or not for longer than the server waits.
import { randomIntegers } from '../helpers/random.ts';
import type { FaultyStream } from './faults.ts';

export interface Pace {
  /** Nothing comes from this packet on, for longer than the server waits; -1: not even headers. Null: no such pause. */
  stall: number | null;
  /** So many first bytes come one by one, over longer than the server waits. */
  drip: number;
}

/** Bytes that drip, with two milliseconds and more between two of them. */
const DRIPPING = 500;

/**
 * Of the streams that nothing else is wrong with, a quarter stalls and a quarter drips: others end in an error
 * before a pause would be noticed.
 */
export function paceOf({ seed, harmless, packets }: FaultyStream): Pace {
  const random = randomIntegers(Math.imul(seed + 1, 0x9e3779b1));
  for (let i = 0; i < 4; i++) random(2);
  const kind = harmless ? random(4) : 2;
  return {
    stall: kind === 0 ? random(packets.length + 1) - 1 : null,
    drip: kind === 1 ? DRIPPING : 0,
  };
}
