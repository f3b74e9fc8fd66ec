// Token sequences whose cuts are stored in the contract and replayed by every runtime.

import type { Json } from '../contract/schema.ts';
import { integers } from '../planner/index.ts';
import type { ChatMarks } from '../policies/policy.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

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
 * @param chat the chat template's marks, where the policy asked for them: one sequence more, a conversation
 */
export async function goldenTokens(
  tokenizer: Tokenizer,
  tables: Json,
  max: number,
  params: Json,
  chat: ChatMarks | null = null,
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
    ...(chat === null ? [] : [conversation(chat, text, length + 53)]),
  ];
}

/** A text with the marks of a chat template in it, some twice, some cut short. */
function conversation(chat: ChatMarks, text: ArrayLike<number>, length: number): number[] {
  const marks = [...chat.answer, ...chat.ends];
  const tokens: number[] = [];
  for (let turn = 0; tokens.length < length; turn++) {
    const mark = marks[turn % marks.length] as readonly number[];
    for (let i = 0; i < 17 + 5 * (turn % 7); i++) {
      tokens.push(text[tokens.length % text.length] as number);
    }
    if (turn % 5 === 3) tokens.push(...mark);
    tokens.push(...(turn % 5 === 4 ? mark.slice(0, -1) : mark));
  }
  return tokens.slice(0, length);
}

/** Every non-negative integer in a JSON value. */
function idsIn(value: Json): number[] {
  if (typeof value === 'number') return value >= 0 ? [value] : [];
  if (value === null || typeof value !== 'object') return [];
  return Object.values(value).flatMap(idsIn);
}
