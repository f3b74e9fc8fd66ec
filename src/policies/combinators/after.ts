// after: a policy's requests count only from a given segment length on.
import { refusal } from '../params.ts';
import type { Policy } from '../policy.ts';
import { defineCombinator, expectPolicy, withOrigin } from './combine.ts';

const { make, origin } = defineCombinator('after', import.meta.url, (params) => {
  const tokens = params['tokens'] as number;
  return {
    start: () => ({ length: 0 }),
    push: (state, asked) => {
      const own = state as { length: number };
      own.length += 1;
      return asked && own.length >= tokens;
    },
    cut: (state) => {
      (state as { length: number }).length = 0;
    },
  };
});

/**
 * The requests of `policy` once `tokens` tokens have gone by since the last cut (the current token
 * counted); earlier ones are dropped, as the planner drops those below `segment.min`. It lets
 * policies of one `anyOf` have minima of their own.
 *
 * @throws LS_POLICY_PARAMS where `tokens` is no integer >= 1
 */
export const after: (policy: Policy, tokens: number) => Policy = withOrigin((policy, tokens) => {
  expectPolicy('after', policy, 0);
  if (!Number.isSafeInteger(tokens) || tokens < 1) {
    refusal('after', { tokens })('tokens', 'an integer >= 1');
  }
  return make({ tokens }, [policy]);
}, origin);
