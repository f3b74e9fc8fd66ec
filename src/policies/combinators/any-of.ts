// anyOf: asks for a cut where any of its policies does.
import { LockstepError } from '../../errors.ts';
import type { Policy } from '../policy.ts';
import { defineCombinator, expectPolicy, withOrigin } from './combine.ts';

const { make, origin } = defineCombinator('anyOf', import.meta.url, () => ({
  start: () => ({}),
  push: (_state, asked) => asked,
  cut: () => {},
}));

/**
 * A policy that asks for a cut after a token where at least one of `policies` does:
 * `anyOf(paragraphs(), after(sentences(), 256))`.
 *
 * @throws LS_POLICY_PARAMS without policies, or where an argument is none
 */
export const anyOf: (...policies: Policy[]) => Policy = withOrigin((...policies) => {
  if (policies.length === 0) {
    throw new LockstepError('LS_POLICY_PARAMS', 'anyOf: expected at least one policy, got none', {
      fix: 'Give anyOf policies such as sentences() or paragraphs().',
    });
  }
  policies.forEach((policy, i) => {
    expectPolicy('anyOf', policy, i);
  });
  return make({}, policies);
}, origin);
