// Whether a policy is what its bundle is: nothing outside the state, nothing that was left behind.
import { LockstepError } from '../errors.ts';
import { advance, begin } from '../planner/core.ts';
import { PolicyHost, type PolicySource, plan, Segmenter } from '../planner/index.ts';
import type { Policy } from '../policies/policy.ts';

/**
 * Run a policy in memory and from policy.js over the same tokens and compare what it asks for; then
 * once more from policy.js, taken through a snapshot half-way, after all the other sequences.
 *
 * @param source its contract so far and policy.js
 * @throws LS_POLICY_CLOSURE where memory and bundle differ, LS_POLICY_STATE where a snapshot or an
 *   earlier sequence changes the answers; and what the policy does wrong by itself (LS_POLICY_*)
 */
export function provePolicy(
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
    sequences.forEach((tokens, i) => {
      const sequence = begin(policy);
      const memory = tokens.flatMap((token) =>
        advance(policy, source.contract.tables, segment, sequence, token)
          ? [sequence.position]
          : [],
      );
      const at = difference(wholes[i] as number[], memory);
      if (at !== undefined) throw closure(policy.name, at - 1, tokens[at - 1] as number);
    });
    sequences.forEach((tokens, i) => {
      const at = difference(wholes[i] as number[], planInHalves(host, tokens));
      if (at !== undefined) throw hiddenState(policy.name, at - 1, tokens[at - 1] as number);
    });
  } finally {
    host.close();
  }
}

function planInHalves(host: PolicyHost, tokens: readonly number[]): number[] {
  const half = tokens.length >> 1;
  const first = new Segmenter(host);
  const before = first.pushMany(tokens.slice(0, half));
  const second = Segmenter.restore(host, first.snapshot());
  first.close();
  const after = second.pushMany(tokens.slice(half));
  second.close();
  return [...before, ...after];
}

/** The first cut that only one of the two has. */
function difference(one: readonly number[], other: readonly number[]): number | undefined {
  const at = one.findIndex((cut, i) => cut !== other[i]);
  if (at === -1) return other[one.length];
  return Math.min(one[at] as number, other[at] ?? Number.POSITIVE_INFINITY);
}

function closure(name: string, index: number, token: number): LockstepError {
  return new LockstepError(
    'LS_POLICY_CLOSURE',
    `expected the policy ${name} to answer alike in the config and in policy.js, got a difference at token ${index} (id ${token})`,
    {
      mend: 'Let push, start and cut use only state, params and tables: what they close over is not shipped.',
      field: 'policy',
    },
  );
}

function hiddenState(name: string, index: number, token: number): LockstepError {
  return new LockstepError(
    'LS_POLICY_STATE',
    `expected the policy ${name} to depend on its state alone, got another answer at token ${index} (id ${token}) after a snapshot`,
    {
      mend: 'Keep everything that push remembers in the state; variables of the module are shared by all sequences.',
      field: 'policy',
    },
  );
}
