// delimiters: a cut after given tokens, strings, or tokens whose text fits a pattern.
import { LockstepError } from '../../errors.ts';
import { definePolicy } from '../define.ts';
import { has, type Vocabulary } from '../policy.ts';
import { compileText, pushText, type TextTables } from '../text/tables.ts';
import { stringMachine } from './machine.ts';

/**
 * Asks for a cut after a token that is in `tokens`, completes one of `strings` (which may span
 * several tokens), or whose text fits the regular expression `pattern` (flags `u`; over the text of
 * one token, so a match never spans tokens). The pattern is evaluated once, when a contract is
 * made. A special token fits by its id, or as a string that is its whole text.
 */
export const delimiters = definePolicy({
  name: 'delimiters',
  module: import.meta.url,
  params: { tokens: [] as readonly number[], strings: [] as readonly string[], pattern: '' },
  check: ({ tokens, strings, pattern }, refuse) => {
    tokens.forEach((token, i) => {
      if (!Number.isSafeInteger(token) || token < 0)
        refuse(`tokens[${i}]`, 'a token id (an integer >= 0)');
    });
    strings.forEach((string, i) => {
      if (typeof string !== 'string' || string === '' || string.length > 64) {
        refuse(`strings[${i}]`, 'a string of 1 to 64 characters');
      }
    });
    if (strings.length > 64) refuse('strings', 'at most 64 strings');
    try {
      new RegExp(pattern, 'u');
    } catch {
      refuse('pattern', 'a regular expression');
    }
    if (tokens.length === 0 && strings.length === 0 && pattern === '') {
      refuse('', 'at least one of tokens, strings and pattern');
    }
  },
  prepare: (vocabulary, { tokens, strings, pattern }) => ({
    tokens: matching(vocabulary, tokens, strings, pattern),
    strings: strings.length === 0 ? null : compileText(vocabulary, stringMachine(strings)),
  }),
  start: () => ({ at: 0 }),
  push: (state, token, { tables }) => {
    const { strings, tokens } = tables as { strings: TextTables | null; tokens: readonly number[] };
    const completed = strings !== null && pushText(state, token, strings);
    return completed || has(tokens, token);
  },
});

function matching(
  vocabulary: Vocabulary,
  tokens: readonly number[],
  strings: readonly string[],
  pattern: string,
): number[] {
  const wanted = new Set(tokens);
  const named = new Set(strings);
  const fits = pattern === '' ? undefined : new RegExp(pattern, 'u');
  return vocabulary.select((text, id) => {
    if (wanted.has(id)) return true;
    if (!vocabulary.special(id)) return fits?.test(text) ?? false;
    strings.forEach((string, i) => {
      if (text !== '' && text !== string && string.includes(text)) mixed(i, string, text);
    });
    return named.has(text);
  });
}

/** A special token ends what text was read before it, so no string goes on over one. */
function mixed(i: number, string: string, special: string): never {
  throw new LockstepError(
    'LS_POLICY_PARAMS',
    `delimiters.strings[${i}]: expected a special token alone or a string without one, got ${JSON.stringify(string)}, which holds ${JSON.stringify(special)}`,
    { fix: `Write strings: [${JSON.stringify(special)}].`, field: `strings[${i}]` },
  );
}
