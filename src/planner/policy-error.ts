// A policy's failure, as the runtime reports it, becomes an error with a fix and the place in the source.
import type { Instrumented } from '../contract/analysis/insertions.ts';
import { placeOfPush, placeOfStack } from '../contract/policy-places.ts';
import { LockstepError } from '../errors.ts';

/** A failure as the runtime reports it: `index` and `token` are -1 where no token was at work. */
export interface PolicyReport {
  readonly code: string;
  readonly message: string;
  readonly index: number;
  readonly token: number;
  /** From the traced runtime alone. */
  readonly stack?: string;
}

/** Index and token of a failure while no token was at work. */
export const nowhere = { index: -1, token: -1 };

/**
 * @param name of the policy
 * @param policySource the text of policy.js
 * @param traced the policy's traced form, if it ran in that form
 */
export function policyError(
  { code, message, index, token, stack }: PolicyReport,
  name: string,
  policySource: string,
  traced: Instrumented | undefined,
): LockstepError {
  const at = index < 0 ? '' : ` at token ${index} (id ${token})`;
  return new LockstepError(code as `LS_${string}`, `policy ${name}${at}: ${message}`, {
    fix: fixes[code] ?? 'Correct the policy, and make the contract again.',
    place:
      stack === undefined || traced === undefined
        ? undefined
        : (placeOfStack(policySource, traced, stack) ?? placeOfPush(policySource, name)),
  });
}

const fixes: Readonly<Record<string, string>> = {
  LS_PLAN_TOKEN: "Give token ids of the contract's own tokenizer.",
  LS_PLAN_CLOSED: 'Open another sequence, or restore one from a snapshot.',
  LS_POLICY_FORBIDDEN: 'A policy may read token ids and its tables; compute the rest in prepare.',
  LS_POLICY_BROKEN: 'Do not run this policy: it interferes with the planner.',
  LS_POLICY_LIMIT:
    'Make the policy do less for each token, keep less in its state, or end its loop.',
  LS_POLICY_LOAD: 'Correct the policy, and make the contract again.',
  LS_POLICY_MEMORY:
    'Keep what push remembers in the state: all else is shared by all sequences, and frozen.',
  LS_POLICY_RESULT: 'Return true to ask for a cut after the token, false otherwise.',
  LS_POLICY_STATE: 'Keep numbers, strings, booleans, null, lists and plain objects in the state.',
  LS_POLICY_THREW: 'Correct the policy, and make the contract again.',
};
