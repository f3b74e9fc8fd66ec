// Checks that a policy and its bundle answer alike and depend on the state alone.

import { LockstepError } from '../errors.ts';
import { interleavedPlans, PolicyHost, type PolicySource, plan } from '../planner/index.ts';
import { requests } from '../policies/in-memory.ts';
import type { Policy } from '../policies/policy.ts';
import { placeInConfig } from '../user-places.ts';

/**
 * Run a policy over the same tokens in memory and from policy.js, and compare what it asks for; then
 * from policy.js again: a second time, in turns with the other sequences, and across two engines.
 *
 * @param source its contract so far and policy.js
 * @throws LS_POLICY_CLOSURE where memory and bundle differ, LS_POLICY_MEMORY where other sequences, an
 *   earlier run or a snapshot change the answers; and what the policy does wrong by itself (LS_POLICY_*)
 */
export function checkPolicy(
  policy: Policy,
  source: PolicySource,
  sequences: readonly (readonly number[])[],
): void {
  // Every request becomes a cut, so that no request is hidden by min or align.
  const segment = { min: 1, max: 2 ** 31 - 1, align: 1 };
  const open: PolicySource = { ...source, contract: { ...source.contract, segment } };
  const host = new PolicyHost(open);
  try {
    const wholes = sequences.map((tokens) => plan(host, tokens));
    const compare = (
      others: readonly (readonly number[])[],
      fault: (name: string, index: number, token: number) => LockstepError,
    ): void => {
      sequences.forEach((tokens, i) => {
        const at = difference(wholes[i] as number[], others[i] as number[]);
        if (at !== undefined) throw fault(policy.name, at - 1, tokens[at - 1] as number);
      });
    };
    compare(
      sequences.map((tokens) => plan(host, tokens)),
      memory,
    );
    compare(interleavedPlans(open, sequences), memory);
    // Last, as it runs in this process, where nothing is frozen.
    compare(
      sequences.map((tokens) => inMemory(policy, source, tokens)),
      closure,
    );
  } finally {
    host.close();
  }
}

function inMemory(policy: Policy, { contract }: PolicySource, tokens: readonly number[]): number[] {
  try {
    return requests(policy, contract.tables, tokens);
  } catch (cause) {
    throw new LockstepError(
      'LS_POLICY_CLOSURE',
      `expected the policy ${policy.name} to answer alike in the config and in policy.js, got an error in the config: ${cause instanceof Error ? cause.message : String(cause)}`,
      { fix: closureFix, field: 'policy', cause, place: placeInConfig(cause) },
    );
  }
}

/** The first cut that only one of the two has. */
function difference(one: readonly number[], other: readonly number[]): number | undefined {
  const at = one.findIndex((cut, i) => cut !== other[i]);
  if (at === -1) return other[one.length];
  return Math.min(one[at] as number, other[at] ?? Number.POSITIVE_INFINITY);
}

const closureFix =
  'Let push, start and cut use only state, params and tables. policy.js does not contain the variables that they capture, and some built-ins differ between JavaScript engines.';

function closure(name: string, index: number, token: number): LockstepError {
  return new LockstepError(
    'LS_POLICY_CLOSURE',
    `expected the policy ${name} to answer alike in the config and in policy.js, got a difference at token ${index} (id ${token})`,
    { fix: closureFix, field: 'policy' },
  );
}

function memory(name: string, index: number, token: number): LockstepError {
  return new LockstepError(
    'LS_POLICY_MEMORY',
    `expected the policy ${name} to depend on its state only, got another answer at token ${index} (id ${token}) after other sequences, or after a snapshot`,
    {
      fix: 'Keep everything that push remembers in the state; variables of the module are shared by all sequences.',
      field: 'policy',
    },
  );
}
