import { describe, expect, it } from 'vitest';
import { rawField, rawItems } from './raw-json.ts';

describe('rawField', () => {
  it.each([
    [
      '{"body": {"a": 4.0, "b": [1e2, {"body": 2}]} , "x": 1}',
      '{"a": 4.0, "b": [1e2, {"body": 2}]}',
    ],
    ['{"x":{"body":{}},"body":{"y":"},\\"body\\":[1"}}', '{"y":"},\\"body\\":[1"}'],
    ['{"b\\u006fdy":{"a":1}}', '{"a":1}'],
    ['{"body":{"a":1},"body":{"a":2}}', '{"a":2}'],
    ['{"body":12345678901234567890}', '12345678901234567890'],
    ['{"custom":"body","url":":body"}', null],
    ['{"a":"\\\\","body":{"b":"\\\\\\""}}', '{"b":"\\\\\\""}'],
    ['{"a":[],"body":{}}', '{}'],
    ['{}', null],
  ])('%s', (text, expected) => {
    expect(rawField(text, 'body')).toBe(expected);
    // The value is that which a reader of JSON finds.
    const { body } = JSON.parse(text);
    expect(expected === null ? undefined : JSON.parse(expected)).toEqual(body);
  });

  it('of a text of 20 million letters', () => {
    const body = JSON.stringify({ prompt: `${'\\"'.repeat(2_000_000)}${'a'.repeat(16_000_000)}` });
    expect(rawField(`{"custom_id":"a","body":${body},"url":"b"}`, 'body') === body).toBe(true);
  });
});

describe('rawItems', () => {
  it.each([
    ['[]', []],
    [' [ 1.0 , 1e400,"],[" ]', ['1.0', '1e400', '"],["']],
    ['[{"a": [1, 2.50]}, [ ], {}]', ['{"a": [1, 2.50]}', '[ ]', '{}']],
    ['["\\\\", "\\"", "a:b"]', ['"\\\\"', '"\\""', '"a:b"']],
  ])('%s', (text, expected) => {
    expect(rawItems(text)).toEqual(expected);
    expect(expected.map((one) => JSON.parse(one))).toEqual(JSON.parse(text));
  });

  it('a string longer than any stack', () => {
    const long = JSON.stringify('\n'.repeat(8_000_000));
    expect(rawItems(`[${long}]`)[0]?.length).toBe(long.length);
    expect(rawField(`{"a":${long}}`, 'a')?.length).toBe(long.length);
  });
});
