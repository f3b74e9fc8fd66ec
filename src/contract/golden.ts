// Token sequences whose cuts are stored in the contract and replayed by every runtime.
import { integers } from '../planner/index.ts';
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
 * those that the policy's tables and parameters name. Each runs over at least two segments where `longest` allows.
 *
 * @param max S, in tokens
 */
export async function goldenTokens(
  tokenizer: Tokenizer,
  tables: Json,
  max: number,
  params: Json,
): Promise<number[][]> {
  const length = Math.min(longest, Math.max(256, 2 * max + Math.ceil(max / 2)));
  const text = await tokenizer.encode(sample);
  const { size } = tokenizer.vocabulary;
  const named = [...idsIn(tables), ...idsIn(params)].filter((id) => id < size);
  const random = integers(20260611);
  // Lengths without a common divisor: what counts tokens in a variable of its own is out of step after one.
  const drawn = Array.from({ length: length + 37 }, () => random() % size);
  const mixed = Array.from({ length: length + 91 }, () => {
    const pick = random();
    return named.length > 0 && pick % 8 === 0
      ? (named[random() % named.length] as number)
      : random() % size;
  });
  return [
    Array.from({ length: length + 1 }, (_, at) => text[at % text.length] as number),
    drawn,
    mixed,
  ];
}

/** Every non-negative integer in a JSON value. */
function idsIn(value: Json): number[] {
  if (typeof value === 'number') return value >= 0 ? [value] : [];
  if (value === null || typeof value !== 'object') return [];
  return Object.values(value).flatMap(idsIn);
}
