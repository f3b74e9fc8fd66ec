// One of Lockstep's own policies, combinators too, made again from its name and parameters.
import { code } from './code/code.ts';
import { after } from './combinators/after.ts';
import { anyOf } from './combinators/any-of.ts';
import { delimiters } from './delimiters/delimiters.ts';
import { fixed } from './fixed/fixed.ts';
import { paragraphs } from './paragraphs/paragraphs.ts';
import { originOf, type Params, type Policy, type PolicyTree } from './policy.ts';
import { questions } from './questions/questions.ts';
import { sentences } from './sentences/sentences.ts';
import { turns } from './turns/turns.ts';

const own = [
  ...[code, delimiters, fixed, paragraphs, questions, sentences, turns],
  ...[after, anyOf],
].map(originOf);

/** null where the policy, or one that it holds, is none of Lockstep's. */
export function rebuild({ name, params }: PolicyTree): Policy | null {
  const origin = own.find((one) => one?.name === name);
  if (origin === undefined) return null;
  const { policies: trees, ...rest } = params;
  const held: Policy[] = [];
  for (const tree of (trees ?? []) as unknown as readonly PolicyTree[]) {
    const policy = rebuild(tree);
    if (policy === null) return null;
    held.push(policy);
  }
  return origin.revive((trees === undefined ? params : rest) as Params, held);
}
