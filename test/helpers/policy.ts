// Policies over texts without a tokenizer: tokens are given, and the vocabulary is made of them.
import { bundlePolicy } from '../../src/contract/bundle.ts';
import { plan } from '../../src/planner/index.ts';
import type { Policy } from '../../src/policies/index.ts';
import { vocabularyOf } from '../../src/policies/testing.ts';

export { segmentsOf, vocabularyOf } from '../../src/policies/testing.ts';

/** The same by the planner, from the policy's bundle and under limits. */
export async function plannedSegments(
  policy: Policy,
  tokens: readonly string[],
  segment: { min: number; max: number; align: number },
): Promise<string[]> {
  const { ids, tables, size } = prepared(policy, tokens);
  const { source } = await bundlePolicy(policy);
  const contract = { policy: { name: policy.name }, tables, segment, tokenizer: { size } };
  return segments(tokens, plan({ contract, policySource: source }, ids));
}

function prepared(policy: Policy, tokens: readonly string[]) {
  const texts = [...new Set(tokens)];
  const tables = JSON.parse(JSON.stringify(policy.prepare(vocabularyOf(texts))));
  return { ids: tokens.map((token) => texts.indexOf(token)), tables, size: texts.length };
}

function segments(tokens: readonly string[], cuts: readonly number[]): string[] {
  const ends = cuts.at(-1) === tokens.length ? cuts : [...cuts, tokens.length];
  return ends.map((end, i) => tokens.slice(ends[i - 1] ?? 0, end).join(''));
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
