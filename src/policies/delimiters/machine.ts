// Finding strings in a stream of characters (Aho and Corasick, 1975).
import type { TextMachine } from '../text/machine.ts';

interface State {
  /** Longest suffix of the text so far that begins one of the strings. */
  suffix: string;
  /** Whether a string ended in the present token. */
  found: boolean;
}

/** Machine that asks for a cut after a token in which one of `strings` is completed. */
export function stringMachine(strings: readonly string[]): TextMachine<State> {
  const prefixes = new Set(['']);
  for (const string of strings) {
    let prefix = '';
    for (const character of string) {
      prefix += character;
      prefixes.add(prefix);
    }
  }
  const characters = [...new Set(strings.join(''))].sort();
  const other = characters.length;
  return {
    start: { suffix: '', found: false },
    classes: characters.length + 1,
    classify: (character) => {
      const known = characters.indexOf(character);
      return known === -1 ? other : known;
    },
    step: ({ suffix, found }, read) => {
      if (read === other) return { suffix: '', found };
      let next = suffix + characters[read];
      const hit = strings.some((string) => next.endsWith(string));
      while (!prefixes.has(next)) next = [...next].slice(1).join('');
      return { suffix: next, found: found || hit };
    },
    asks: ({ found }) => found,
    begin: ({ suffix }) => ({ suffix, found: false }),
  };
}
