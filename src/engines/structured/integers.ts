// Whole numbers between two bounds, digit by digit.
import { bytes, choice, literal, type Node, repeat, sequence } from './grammar.ts';

/** Numbers have at most this many digits: a double holds each of them exactly. */
export const MOST_DIGITS = 15;
const MOST = 10 ** MOST_DIGITS - 1;

/**
 * @param least, most bounds, both within; infinite ones mean as far as numbers go
 * @returns null where no number lies between them
 */
export function between(least: number, most: number): Node | null {
  const low = Math.max(-MOST, Math.ceil(least));
  const high = Math.min(MOST, Math.floor(most));
  if (low > high) return null;
  const negative = low < 0 ? [sequence(literal('-'), digits(Math.max(1, -high), -low))] : [];
  const positive = high >= 0 ? [digits(Math.max(0, low), high)] : [];
  return choice(...negative, ...positive);
}

/** 0 <= low <= high, length by length. */
function digits(low: number, high: number): Node {
  const parts: Node[] = [];
  for (let length = String(low).length; length <= String(high).length; length++) {
    const first = Math.max(low, length === 1 ? 0 : 10 ** (length - 1));
    const last = Math.min(high, 10 ** length - 1);
    parts.push(alike(String(first), String(last)));
  }
  return choice(...parts);
}

/** Numbers of one length; zeros in front of them count. */
function alike(low: string, high: string): Node {
  if (/^0*$/.test(low) && /^9*$/.test(high)) return repeat(digit(0, 9), low.length, low.length);
  const [a, b] = [digitOf(low), digitOf(high)];
  const rest = [low.slice(1), high.slice(1)] as const;
  if (a === b) return sequence(literal(String(a)), alike(...rest));
  return choice(
    sequence(literal(String(a)), alike(rest[0], '9'.repeat(rest[0].length))),
    ...free(a + 1, b - 1, rest[0].length),
    sequence(literal(String(b)), alike('0'.repeat(rest[1].length), rest[1])),
  );
}

/** A digit of a range, and any behind it. */
function free(from: number, to: number, behind: number): Node[] {
  if (from > to) return [];
  return [sequence(digit(from, to), repeat(digit(0, 9), behind, behind))];
}

function digit(from: number, to: number): Node {
  return bytes([0x30 + from, 0x30 + to]);
}

function digitOf(number: string): number {
  return Number(number[0]);
}
