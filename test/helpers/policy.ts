// Policies over texts without a tokenizer: tokens are given, and the vocabulary is made of them.
import { advance, begin, type SegmentLimits } from '../../src/planner/core.ts';
import type { Policy, Vocabulary } from '../../src/policies/index.ts';

/** A vocabulary of these texts; a text in angle brackets (`<end>`) is a special token. */
export function vocabularyOf(texts: readonly string[]): Vocabulary {
  const text = (id: number): string => texts[id] ?? '';
  const ids = texts.map((_, id) => id);
  return {
    size: texts.length,
    text,
    special: (id) => /^<\w+>$/.test(text(id)),
    select: (test) => ids.filter((id) => test(text(id), id)),
  };
}

export const loose: SegmentLimits = { min: 1, max: 1_000_000, align: 1 };

/** Cut a list of tokens by a policy, in memory; texts of the segments, the open one included. */
export function segmentsOf(
  policy: Policy,
  tokens: readonly string[],
  limits: SegmentLimits = loose,
): string[] {
  const texts = [...new Set(tokens)];
  const tables = JSON.parse(JSON.stringify(policy.prepare(vocabularyOf(texts))));
  const sequence = begin(policy);
  const segments = [''];
  for (const token of tokens) {
    segments[segments.length - 1] += token;
    if (advance(policy, tables, limits, sequence, texts.indexOf(token))) segments.push('');
  }
  if (segments.at(-1) === '') segments.pop();
  return segments;
}

/** Split a text as byte-level tokenizers do: words with their leading space, digits, runs of marks. */
export function words(text: string): string[] {
  return (
    text.match(/<\w+>|'(?:s|t|re)\b| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}<]+|\s+(?!\S)|\s/gu) ?? []
  );
}

/** One token a character. */
export function characters(text: string): string[] {
  return [...text];
}
