import { describe, expect, it } from 'vitest';
import { characters, plannedSegments, segmentsOf, words } from '../../../test/helpers/policy.ts';
import { code } from './code.ts';

/** Each list is one text; the policy shall cut between its items and nowhere else. */
const texts: Record<string, string[]> = {
  paragraphs: ['# Title\n\n', 'Text\nof two lines.\n\n', 'More'],
  'a fence with blank lines': ['Text\n\n', '```js\na\n\n\nb\n```\n', 'more'],
  'a fence of tildes': ['~~~\n\n```\n\n~~~\n', 'text\n\n', 'more'],
  'a longer fence holds a shorter one': ['````md\n\n```\n\n```\n\n````\n', 'text'],
  'markers within a line': ['a ``` b\n\n', 'c ~~~\n\n', 'd'],
  'inline code of three markers': ['```inline```\n\n', 'text'],
  'two markers are no fence': ['``\n\n', '``\n\n', 'text'],
  'a fence in a list': ['- item\n  ```\n\n  x\n  ```\n', '- item'],
  'text after closing markers closes nothing': ['```\n\n``` x\n\n```  \n', 'text'],
  'an info string': ['```ts title="a b"\n\n```\n', 'text'],
  'an open fence': ['```\n\na\n\nb\n\n'],
  'blank lines of white space': ['a\n  \n', 'b\n\t\n', 'c'],
  'a special token closes': ['```\n\na\n\n<end>b\n\n', 'c'],
};

describe.each(Object.entries(texts))('%s', (_, expected) => {
  it.each([
    ['characters', characters],
    ['words', words],
    ['markers in twos', (text: string) => text.match(/<\w+>|``|~~|\n\n?| +|[^\s`~<]+|./g) ?? []],
  ])('is cut between blocks (tokens are %s)', (kind, split) => {
    const text = expected.join('');
    if (kind === 'characters' && text.includes('<')) return;
    expect(segmentsOf(code(), split(text))).toEqual(expected);
  });
});

it('lets max cut inside a fence, and stays inside', async () => {
  const segments = await plannedSegments(code(), characters('```\n\n\n\n\n\n\n```\nab'), {
    min: 1,
    max: 8,
    align: 1,
  });
  expect(segments).toEqual(['```\n\n\n\n\n', '\n\n```\n', 'ab']);
});
