// JSON's own texts as parts of a grammar: strings, numbers, white space, any value.
import {
  bytes,
  choice,
  literal,
  type Node,
  optional,
  reference,
  repeat,
  sequence,
} from './grammar.ts';
import { MOST_DIGITS } from './integers.ts';

/** Most spaces of an indentation. */
const INDENT = 32;

const digit = bytes([0x30, 0x39]);
const hex = bytes([0x30, 0x39], [0x41, 0x46], [0x61, 0x66]);
const more = bytes([0x80, 0xbf]);

/** One character of a string: UTF-8 as Unicode's table 3-7 has it, or an escape; no lone surrogate. */
const character = choice(
  bytes([0x20, 0x21], [0x23, 0x5b], [0x5d, 0x7f]),
  sequence(bytes([0xc2, 0xdf]), more),
  sequence(bytes([0xe0, 0xe0]), bytes([0xa0, 0xbf]), more),
  sequence(bytes([0xe1, 0xec], [0xee, 0xef]), more, more),
  sequence(bytes([0xed, 0xed]), bytes([0x80, 0x9f]), more),
  sequence(bytes([0xf0, 0xf0]), bytes([0x90, 0xbf]), more, more),
  sequence(bytes([0xf1, 0xf3]), more, more, more),
  sequence(bytes([0xf4, 0xf4]), bytes([0x80, 0x8f]), more, more),
  sequence(
    literal('\\'),
    choice(
      ...['"', '\\', '/', 'b', 'f', 'n', 'r', 't'].map(literal),
      sequence(literal('u'), unit()),
    ),
  ),
);

/** Four hexadecimal digits that are a character, or two pairs of surrogates. */
function unit(): Node {
  const d = bytes([0x44, 0x44], [0x64, 0x64]);
  const notD = bytes([0x30, 0x39], [0x41, 0x43], [0x45, 0x46], [0x61, 0x63], [0x65, 0x66]);
  const high = bytes([0x38, 0x39], [0x41, 0x42], [0x61, 0x62]);
  const low = bytes([0x43, 0x46], [0x63, 0x66]);
  return choice(
    sequence(notD, hex, hex, hex),
    sequence(d, bytes([0x30, 0x37]), hex, hex),
    sequence(d, high, hex, hex, literal('\\u'), d, low, hex, hex),
  );
}

/** A string of `min` to `max` characters (code points, as JSON Schema counts). */
export function string(min: number, max: number): Node {
  return sequence(literal('"'), repeat(character, min, max), literal('"'));
}

export const anyString = string(0, Infinity);

export const integer = sequence(
  optional(literal('-')),
  choice(literal('0'), sequence(bytes([0x31, 0x39]), repeat(digit, 0, MOST_DIGITS - 1))),
);

export const number = sequence(
  integer,
  optional(sequence(literal('.'), repeat(digit, 1, MOST_DIGITS))),
  optional(
    sequence(
      choice(literal('e'), literal('E')),
      optional(choice(literal('+'), literal('-'))),
      repeat(digit, 1, 2),
    ),
  ),
);

export const boolean = choice(literal('true'), literal('false'));
export const nothing = literal('null');

/** Nothing, a space, or a new line with its indentation: bounded, so that no model writes blanks for ever. */
export const space = choice(
  literal(''),
  literal(' '),
  sequence(literal('\n'), repeat(literal(' '), 0, INDENT)),
);

/** Brackets with nothing between them. */
export function empty(open: string, close: string): Node {
  return sequence(literal(open), space, literal(close));
}

/** Items between brackets, separated by commas. */
export function list(open: string, close: string, item: Node, min: number, max: number): Node {
  if (max === 0) return empty(open, close);
  const end = sequence(space, literal(close));
  const items = sequence(
    space,
    item,
    repeat(sequence(space, literal(','), space, item), Math.max(0, min - 1), max - 1),
    end,
  );
  return sequence(literal(open), min > 0 ? items : choice(end, items));
}

/** A key and its value. */
export function member(key: Node, value: Node): Node {
  return sequence(key, space, literal(':'), space, value);
}

/** A member whose key is known. */
export function property(name: string, value: Node): Node {
  return member(literal(JSON.stringify(name)), value);
}

export const anyArray: Node = list(
  '[',
  ']',
  reference(() => anyValue),
  0,
  Infinity,
);
export const anyObject: Node = list(
  '{',
  '}',
  member(
    anyString,
    reference(() => anyValue),
  ),
  0,
  Infinity,
);
export const anyValue: Node = choice(anyObject, anyArray, anyString, number, boolean, nothing);
