// What combinators share: a policy that holds policies, with a list of their states and tables.

import { LockstepError } from '../../errors.ts';
import type { Json } from '../../json.ts';
import { ORIGIN, type Origin, originOf, type Params, type Policy, seal } from '../policy.ts';

/** The part of a combinator that differs: state and what it does with the answers. */
export interface Combination {
  start(): unknown;
  /** `asked`: at least one of the held policies asks for a cut after this token. */
  push(state: unknown, asked: boolean): boolean;
  cut(state: unknown): void;
}

interface CombinedState {
  own: unknown;
  policies: unknown[];
}

/**
 * Define a combinator of policies.
 *
 * `params` of the policies it makes are the given ones and `policies`, the `{name, params}` trees of
 * the held policies; their tables and states are lists in the same order. Every held policy sees
 * every token and every cut.
 */
export function defineCombinator(
  name: string,
  module: string,
  combination: (params: Params) => Combination,
): { make(params: Params, policies: readonly Policy[]): Policy; origin: Origin } {
  const make = (params: Params, policies: readonly Policy[]): Policy => {
    const { start, push, cut } = combination(params);
    const trees = policies.map((policy) => ({ name: policy.name, params: policy.params }));
    return seal(
      {
        kind: 'policy',
        name,
        params: Object.freeze({ ...params, policies: Object.freeze(trees) }),
        prepare: (vocabulary) => policies.map((policy) => policy.prepare(vocabulary)),
        start: () => ({ own: start(), policies: policies.map((policy) => policy.start()) }),
        push: (state, token, tables) => {
          const held = state as CombinedState;
          let asked = false;
          for (let i = 0; i < policies.length; i++) {
            const answer = policies[i]?.push(
              held.policies[i],
              token,
              tablesOf(tables, i),
            ) as boolean;
            // Not an answer: passed up for the planner to refuse.
            if (typeof answer !== 'boolean') return answer;
            if (answer) asked = true;
          }
          return push(held.own, asked);
        },
        cut: (state, tables) => {
          const held = state as CombinedState;
          cut(held.own);
          policies.forEach((policy, i) => {
            policy.cut(held.policies[i], tablesOf(tables, i));
          });
        },
      },
      { ...origin, policies },
    );
  };
  const origin: Origin = { name, module, policies: [], revive: make };
  return { make, origin };
}

/** Give a combinator's function the origin by which the bundle finds it. */
export function withOrigin<F extends (...args: never[]) => Policy>(make: F, origin: Origin): F {
  Object.defineProperty(make, ORIGIN, { value: origin });
  return Object.freeze(make);
}

/** @throws LS_POLICY_PARAMS where an argument is no policy */
export function expectPolicy(combinator: string, value: unknown, index: number): void {
  if ((value as Policy | undefined)?.kind === 'policy' && originOf(value) !== undefined) return;
  const hint = originOf(value) === undefined ? '' : ' (a factory: call it, as in sentences())';
  throw new LockstepError(
    'LS_POLICY_PARAMS',
    `${combinator}: expected argument ${index + 1} to be a policy, got ${typeof value}${hint}`,
    {
      fix: `Give ${combinator} policies such as sentences() or paragraphs().`,
      field: `[${index}]`,
    },
  );
}

function tablesOf(tables: Json, index: number): Json {
  return (tables as readonly Json[])[index] ?? null;
}
