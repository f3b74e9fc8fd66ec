// A policy as a value of this process, asked token by token: no planner, no bundle, no engine.
import type { Json } from '../json.ts';
import type { Policy } from './policy.ts';

/**
 * Where a policy asks for a cut when it is given each one: numbers of tokens before the cuts.
 *
 * @param tables what `prepare` returned
 */
export function requests(policy: Policy, tables: Json, tokens: ArrayLike<number>): number[] {
  const state = policy.start();
  const cuts: number[] = [];
  for (let i = 0; i < tokens.length; i++) {
    if (!policy.push(state, tokens[i] as number, tables)) continue;
    cuts.push(i + 1);
    policy.cut(state, tables);
  }
  return cuts;
}
