import { InvalidArgumentError } from 'commander';
import { describe, expect, it } from 'vitest';
import {
  above0,
  atLeast0,
  lengths,
  names,
  namesOf,
  natural,
  port,
  positive,
  seed,
  whole,
} from './option-values.ts';

describe('values of options', () => {
  it.each([
    ['a whole number', natural, '0', 0],
    ['one', positive, '1', 1],
    ['the largest seed', seed, '2147483647', 2_147_483_647],
    ['the largest port', port, '65535', 65_535],
    ['exponents', whole(16), '1e3', 1000],
    ['a fraction', above0, '0.5', 0.5],
    ['nothing at all', atLeast0, '0', 0],
  ])('take %s', (_, parse, text, value) => {
    expect(parse(text)).toBe(value);
  });

  it.each([
    ['an empty text for 0', natural, ' ', 'expected a whole number from 0 on.'],
    ['fractions', natural, '1.5', 'expected a whole number from 0 on.'],
    ['what no float holds', natural, '9007199254740993', 'expected a whole number from 0 on.'],
    ['0 for one', positive, '0', 'expected a whole number from 1 on.'],
    ['units', positive, '8k', 'expected a whole number from 1 on.'],
    ['too large a seed', seed, '2147483648', 'expected a whole number from 0 to 2147483647.'],
    ['too large a port', port, '65536', 'expected a whole number from 0 to 65535.'],
    ['0 for a duration', above0, '0', 'expected a number above 0.'],
    ['infinity', above0, 'Infinity', 'expected a number above 0.'],
    ['a negative weight', atLeast0, '-1', 'expected a number of at least 0.'],
    ['an empty weight', atLeast0, '', 'expected a number of at least 0.'],
    ['a length of one token', lengths, '1,2', 'expected whole numbers from 2 on, comma-separated.'],
    ['a missing length', lengths, '2,', 'expected whole numbers from 2 on, comma-separated.'],
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
