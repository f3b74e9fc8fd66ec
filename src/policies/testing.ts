// Unit tests of policies: tokens are given as texts, and the vocabulary is made of them.
import { requests } from './in-memory.ts';
import type { Policy, Vocabulary } from './policy.ts';

/** A vocabulary of these texts; a text in angle brackets (`<end>`) is a special token. */
export function vocabularyOf(texts: readonly string[]): Vocabulary {
  const text = (id: number): string => texts[id] ?? '';
  const ids = texts.map((_, id) => id);
  return {
    size: texts.length,
    text,
    special: (id) => /^<[\w|]+>$/.test(text(id)),
    select: (test) => ids.filter((id) => test(text(id), id)),
  };
}

/**
 * Cut a list of tokens wherever a policy asks, without a model, a tokenizer or the planner's limits: texts
 * of the segments, the open one included.
 */
export function segmentsOf(policy: Policy, tokens: readonly string[]): string[] {
  const texts = [...new Set(tokens)];
  // As a contract holds them: JSON.
  const tables = JSON.parse(JSON.stringify(policy.prepare(vocabularyOf(texts))));
  const ids = tokens.map((token) => texts.indexOf(token));
  const cuts = requests(policy, tables, ids);
  const ends = cuts.at(-1) === tokens.length ? cuts : [...cuts, tokens.length];
  return ends.map((end, i) => tokens.slice(ends[i - 1] ?? 0, end).join(''));
}
