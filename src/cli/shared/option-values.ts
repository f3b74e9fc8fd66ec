// Values of command-line options: what commander calls to read them, with one wording of what is wrong.
import { InvalidArgumentError } from 'commander';
import { longestMinutes, longestSeconds } from '../../longest-times.ts';

type Parser<T> = (text: string) => T;

/** A whole number from `least` to `most`, both included. @throws commander's InvalidArgumentError */
export function parseIntegerIn(
  least: number,
  most: number = Number.MAX_SAFE_INTEGER,
): Parser<number> {
  const range =
    most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
  return (text) => {
    const value = numberOf(text);
    if (Number.isSafeInteger(value) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`expected a whole number ${range}.`);
  };
}

/** 0, 1, 2, … */
export const parseNonNegativeInt = parseIntegerIn(0);

/** 1, 2, 3, … */
export const parsePositiveInt = parseIntegerIn(1);

/** What PyTorch's generators and Python's take alike. */
export const seed = parseIntegerIn(0, 2 ** 31 - 1);

/** A TCP port; 0 takes any free one. */
export const port = parseIntegerIn(0, 65_535);

/** A finite number above 0. */
export function parsePositiveNumber(text: string): number {
  const value = numberOf(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('expected a number above 0.');
}

/** A finite number of at least 0. */
export function parseNonNegativeNumber(text: string): number {
  const value = numberOf(text);
  if (Number.isFinite(value) && value >= 0) return value;
  throw new InvalidArgumentError('expected a number of at least 0.');
}

/** Seconds that a timer can wait. */
export function parseSeconds(text: string): number {
  const value = parseNonNegativeNumber(text);
  if (value <= longestSeconds) return value;
  throw new InvalidArgumentError(`expected a number from 0 to ${longestSeconds} (23 days).`);
}

/** The same for a limit, which 0 would be none of. */
export function parsePositiveSeconds(text: string): number {
  const value = parsePositiveNumber(text);
  if (value >= 0.001 && value <= longestSeconds) return value;
  throw new InvalidArgumentError(`expected a number from 0.001 to ${longestSeconds} (23 days).`);
}

/** How long to train. */
export function parseMinutes(text: string): number {
  const value = parsePositiveNumber(text);
  if (value <= longestMinutes) return value;
  throw new InvalidArgumentError(`expected a number above 0, at most ${longestMinutes}.`);
}

/** Comma-separated names, each once, in the order given. */
export function names(text: string): string[] {
  return [...new Set(text.split(',').map((name) => name.trim()))];
}

/** Comma-separated names of `known`, each once. */
export function namesOf(known: readonly string[]): Parser<string[]> {
  return (text) => {
    const list = names(text);
    const unknown = list.find((name) => !known.includes(name));
    if (unknown === undefined) return list;
    const choice = [known.slice(0, -1).join(', '), ...known.slice(-1)].filter(Boolean).join(' or ');
    throw new InvalidArgumentError(`expected ${choice}, got ${unknown}.`);
  };
}

/** Comma-separated lengths in tokens, each once, the shortest first; two tokens predict one. */
export function lengths(text: string): number[] {
  const list = names(text).map(numberOf);
  if (list.every((n) => Number.isSafeInteger(n) && n >= 2)) return list.sort((a, b) => a - b);
  throw new InvalidArgumentError('expected whole numbers of at least 2, comma-separated.');
}

/** NaN for an empty text, which Number() takes for 0. */
function numberOf(text: string): number {
  return text.trim() === '' ? Number.NaN : Number(text);
}
