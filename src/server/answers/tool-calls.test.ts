import { describe, expect, test } from 'vitest';
import { type ParsedText, ToolCallParser, type ToolMode } from './tool-calls.ts';

const free: ToolMode = { kind: 'free', names: ['weather', 'time'], single: false };

/** Everything that a text turns out to be, given whole or in pieces of a size. */
function read(text: string, mode: ToolMode = free, size = text.length || 1) {
  const parser = new ToolCallParser(mode);
  const parsed: ParsedText[] = [];
  for (let at = 0; at < text.length; at += size)
    parsed.push(parser.push(text.slice(at, at + size)));
  parsed.push(parser.end());
  return {
    content: parsed.map((one) => one.content).join(''),
    calls: parsed
      .flatMap((one) => one.calls)
      .map(({ index, function: { name, arguments: args } }) => [index, name, args]),
    called: parser.called,
  };
}

function spaceless([index, name, args]: (string | number)[]) {
  return [index, name, String(args).replaceAll(' ', '')];
}

describe('calls in a text', () => {
  const tagged =
    'Let me look.<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call> And <tool_call>{"name":"time","arguments":{}}</tool_call>';
  const bare = ' {"name": "weather", "parameters": {"city": "Rome"}}';
  const list = '[{"name":"weather","arguments":"{\\"a\\":1}"},{"name":"time","arguments":{}}]';

  test.each([1, 2, 7, 1000])('are found in pieces of %i', (size) => {
    expect(read(tagged, free, size)).toEqual({
      content: 'Let me look. And ',
      calls: [
        [0, 'weather', '{"city": "Rome"}'],
        [1, 'time', '{}'],
      ],
      called: true,
    });
    expect(read(bare, free, size).calls).toEqual([[0, 'weather', '{"city": "Rome"}']]);
    expect(read(list, free, size).calls).toEqual([
      [0, 'weather', '{"a":1}'],
      [1, 'time', '{}'],
    ]);
  });

  // What Mistral's templates write: a list (tokenizer v3), or name and arguments (v11, v13).
  test.each([
    '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome"}, "id": "abcdefghi"}, {"name": "time", "arguments": {}}]',
    '[TOOL_CALLS]weather[ARGS]{"city":"Rome"}[TOOL_CALLS]time[ARGS]{}',
    '[TOOL_CALLS]weather[CALL_ID]abcdefghi[ARGS]{"city":"Rome"}[TOOL_CALLS]time[CALL_ID]bbbbbbbbb[ARGS]{}',
  ])('in the words of Mistral: %s', (text) => {
    for (const size of [1, 5, 1000]) {
      const found = read(`Well, [a] ${text}`, free, size);
      expect({ ...found, calls: found.calls.map(spaceless) }).toEqual({
        content: 'Well, [a] ',
        calls: [
          [0, 'weather', '{"city":"Rome"}'],
          [1, 'time', '{}'],
        ],
        called: true,
      });
    }
  });

  test('no more than one where no more may come', () => {
    const single: ToolMode = { ...free, single: true };
    for (const text of [tagged, list, '[TOOL_CALLS]time[ARGS]{}[TOOL_CALLS]time[ARGS]{}']) {
      expect(read(text, single, 3).calls).toHaveLength(1);
    }
  });

  test('ids are as Mistral’s templates take them', () => {
    const parser = new ToolCallParser(free);
    const [call] = [...parser.push(list).calls, ...parser.end().calls];
    expect(call?.id).toMatch(/^[A-Za-z0-9]{9}$/);
  });

  test.each([
    'no call at all',
    '[TOOL_CALLS]',
    '[TOOL_CALLS]unknown[ARGS]{}',
    '[TOOL_CALLS]weather[ARGS]Rome',
    '[TOOL_CALLS]weather {"city": "Rome"}',
    '[TOOL_CALLS] [] [TOOL_CALLS]',
    '[TOOL_',
    'a < b <tool and <tool_call',
    '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
    '<tool_call>not JSON</tool_call> then text',
    '{"name": "weather"',
    '{"answer": 42}',
    '[1, 2, 3]',
    '[link](http://a)',
    '',
  ])('what is none stays to the letter: %s', (text) => {
    for (const size of [1, 3, 100]) {
      expect(read(text, free, size)).toEqual({ content: text, calls: [], called: false });
    }
  });

  test.each([
    ['{"thought": 1}\n', ''],
    ['[{"thought": "a \\" <tool_call>"}] ', ' done'],
    ['{no JSON "', ''],
    ['{a 5" screen} ', ' and "more" '],
    ['[{', '[TOOL_'],
  ])('a tag counts behind a text that begins as JSON: %s', (before, after) => {
    const call = '<tool_call>\n{"name": "time", "arguments": {"at": "<tool_call>"}}\n</tool_call>';
    for (const size of [1, 4, 1000]) {
      expect(read(before + call + after, free, size)).toEqual({
        content: before + after,
        calls: [[0, 'time', '{"at": "<tool_call>"}']],
        called: true,
      });
    }
  });

  test('it is read as soon as the tag has come, not at the end', () => {
    const parser = new ToolCallParser(free);
    expect(parser.push('{"thought": 1} <tool_ca').content).toBe('');
    expect(parser.push('ll>{').content).toBe('{"thought": 1} ');
    expect(parser.push('"name":"time"}</tool_call> so').calls).toHaveLength(1);
  });

  test('in a string of JSON a tag is text', () => {
    const inside = '<tool_call>{} \\" [TOOL_CALLS]time[ARGS]{}[TOOL_CALLS]';
    const call = `{"name": "time", "arguments": {"text": "${inside}"}}`;
    const other = `{"answer": "${inside}"}`;
    for (const size of [1, 4, 1000]) {
      expect(read(call, free, size).calls).toEqual([[0, 'time', `{"text": "${inside}"}`]]);
      expect(read(other, free, size)).toEqual({ content: other, calls: [], called: false });
    }
  });

  test('a tag that is not closed counts when its JSON is whole', () => {
    expect(read('<tool_call>{"name":"time","arguments":{}}').calls).toEqual([[0, 'time', '{}']]);
  });

  // Read as numbers of JavaScript they would be 1234567890123456800, 1, null and 0.1.
  const exact = '{"id": 1234567890123456789, "x": 1.0, "y": 1e400, "z": [0.10, "}\\",{"]}';

  test.each([
    ['a tag', free, `<tool_call>{"name": "time", "arguments": ${exact}}</tool_call>`],
    ['parameters', free, `{"parameters":${exact},"name":"time"}`],
    ['a list behind a tag', free, `[TOOL_CALLS][{"name": "time", "arguments": ${exact}}]`],
    ['a list', { kind: 'list' }, `[{"name":"time","arguments":${exact}}]`],
    ['an escaped key', free, `{"name":"time","\\u0061rguments": ${exact} }`],
    ['the last of two', free, `{"name":"time","arguments":{"a":1},"arguments":${exact}}`],
    ['a string', free, JSON.stringify({ name: 'time', arguments: exact })],
    ['one tool', { kind: 'one', name: 'time' }, exact],
  ] satisfies [string, ToolMode, string][])(
    'arguments are as they were written: %s',
    (_, mode, text) => {
      for (const size of [1, 9, 1000]) {
        expect(read(text, mode, size).calls).toEqual([[0, 'time', exact]]);
      }
    },
  );

  test('of several calls each has its own arguments', () => {
    const text =
      '[{"name":"time","arguments":{"n":1.0}},{"name":"weather","parameters":{"n":2.00}},{"name":"time","arguments":null},{"name":"time"}]';
    expect(read(text).calls).toEqual([
      [0, 'time', '{"n":1.0}'],
      [1, 'weather', '{"n":2.00}'],
      [2, 'time', '{}'],
      [3, 'time', '{}'],
    ]);
  });

  test('text that is held to a call', () => {
    expect(read('{"city": "Rome"}', { kind: 'one', name: 'weather' }).calls).toEqual([
      [0, 'weather', '{"city": "Rome"}'],
    ]);
    expect(read('{"city": ', { kind: 'one', name: 'weather' }).content).toBe('{"city": ');
    expect(read('[{"name":"time","arguments":{}}]', { kind: 'list' }).calls).toHaveLength(1);
  });
});
