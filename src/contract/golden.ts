// Token sequences whose cuts are stored in the contract and replayed by every runtime.
import type { Tokenizer } from '../planner/tokenizer.ts';
import type { Json } from './schema.ts';

/** Prose, lists, code fences, quotes, other scripts: what policies look for. */
const sample = `Chapter one. It was a bright day; the clocks struck. "Who's there?" she asked. Nobody answered!

- first: apples, 3.5 kg
- second: "pears" (or plums)

\`\`\`python
def area(r: float) -> float:
    # Not a sentence. Nor this.
    return 3.14159 * r * r

print(area(2))
\`\`\`

O Romeo, Romeo! wherefore art thou Romeo?
  Deny thy father and refuse thy name;\r
Or, if thou wilt not, be but sworn my love.

今日は晴れ。明日は雨でしょう。 Ça va? Да. مرحبا 😀

<p>Markup &amp; more</p>\tEnd of the sample...

`;

/** Longest sequence kept; enough for several segments of every usual S. */
const longest = 4096;

/**
 * The sequences: a text of many kinds, ids drawn from the whole vocabulary, and such ids mixed with
 * those that the policy's tables name. Each runs over at least two segments where `longest` allows.
 *
 * @param max S, in tokens
 */
export async function goldenTokens(
  tokenizer: Tokenizer,
  tables: Json,
  max: number,
): Promise<number[][]> {
  const length = Math.min(longest, Math.max(256, 2 * max + Math.ceil(max / 2)));
  const text = await tokenizer.encode(sample);
  const { size } = tokenizer.vocabulary;
  const named = idsIn(tables).filter((id) => id < size);
  const random = randomInts(20260611);
  const drawn = Array.from({ length }, () => random() % size);
  const mixed = Array.from({ length }, () => {
    const pick = random();
    return named.length > 0 && pick % 8 === 0
      ? (named[random() % named.length] as number)
      : random() % size;
  });
  return [Array.from({ length }, (_, at) => text[at % text.length] as number), drawn, mixed];
}

/** Every non-negative integer in a table's lists. */
function idsIn(tables: Json): number[] {
  if (Array.isArray(tables)) {
    return (tables as readonly Json[]).flatMap((entry) =>
      typeof entry === 'number' ? (entry >= 0 ? [entry] : []) : idsIn(entry),
    );
  }
  if (tables === null || typeof tables !== 'object') return [];
  return Object.values(tables).flatMap(idsIn);
}

/** Numerical Recipes' linear congruential generator; the high bits, as the low ones repeat. */
function randomInts(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 4;
  };
}
