import { InvalidArgumentError } from 'commander';
import { describe, expect, it } from 'vitest';
import {
  lengths,
  names,
  namesOf,
  parseIntegerIn,
  parseMinutes,
  parseNonNegativeInt,
  parseNonNegativeNumber,
  parsePositiveInt,
  parsePositiveNumber,
  parsePositiveSeconds,
  parseSeconds,
  port,
  seed,
} from './option-values.ts';

describe('values of options', () => {
  it.each([
    ['a whole number', parseNonNegativeInt, '0', 0],
    ['one', parsePositiveInt, '1', 1],
    ['the largest seed', seed, '2147483647', 2_147_483_647],
    ['the largest port', port, '65535', 65_535],
    ['exponents', parseIntegerIn(16), '1e3', 1000],
    ['a fraction', parsePositiveNumber, '0.5', 0.5],
    ['nothing at all', parseNonNegativeNumber, '0', 0],
    ['no time', parseSeconds, '0', 0],
    ['weeks', parseSeconds, '2e6', 2_000_000],
    ['a millisecond', parsePositiveSeconds, '0.001', 0.001],
    ['years', parseMinutes, '1e7', 10_000_000],
  ])('take %s', (_, parse, text, value) => {
    expect(parse(text)).toBe(value);
  });

  it.each([
    ['an empty text for 0', parseNonNegativeInt, ' ', 'expected a whole number of at least 0.'],
    ['fractions', parseNonNegativeInt, '1.5', 'expected a whole number of at least 0.'],
    [
      'what no float holds',
      parseNonNegativeInt,
      '9007199254740993',
      'expected a whole number of at least 0.',
    ],
    ['0 for one', parsePositiveInt, '0', 'expected a whole number of at least 1.'],
    ['units', parsePositiveInt, '8k', 'expected a whole number of at least 1.'],
    ['too large a seed', seed, '2147483648', 'expected a whole number from 0 to 2147483647.'],
    ['too large a port', port, '65536', 'expected a whole number from 0 to 65535.'],
    ['0 for a duration', parsePositiveNumber, '0', 'expected a number above 0.'],
    ['infinity', parsePositiveNumber, 'Infinity', 'expected a number above 0.'],
    ['a negative weight', parseNonNegativeNumber, '-1', 'expected a number of at least 0.'],
    ['what no timer waits', parseSeconds, '9999999', 'expected a number from 0 to 2000000'],
    ['no limit', parsePositiveSeconds, '0', 'expected a number above 0.'],
    ['less than a timer', parsePositiveSeconds, '1e-9', 'expected a number from 0.001 to 2000000'],
    ['centuries', parseMinutes, '1e308', 'expected a number above 0, at most 10000000.'],
    ['an empty weight', parseNonNegativeNumber, '', 'expected a number of at least 0.'],
    [
      'a length of one token',
      lengths,
      '1,2',
      'expected whole numbers of at least 2, comma-separated.',
    ],
    ['a missing length', lengths, '2,', 'expected whole numbers of at least 2, comma-separated.'],
    ['a name that is unknown', namesOf(['a', 'b', 'c']), 'a,d', 'expected a, b or c, got d.'],
    ['another than the only name', namesOf(['a']), 'b', 'expected a, got b.'],
  ])('refuse %s', (_, parse, text, message) => {
    expect(() => parse(text)).toThrow(InvalidArgumentError);
    expect(() => parse(text)).toThrow(message);
  });

  it('hold each of a list once', () => {
    expect(lengths('2048, 512,2048')).toEqual([512, 2048]);
    expect(names('b, a,b')).toEqual(['b', 'a']);
    expect(namesOf(['a', 'b'])('b,a')).toEqual(['b', 'a']);
  });
});
