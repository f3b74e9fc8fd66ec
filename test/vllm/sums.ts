// A policy that never forgets: its cuts cannot be found from the open segment alone.
import { definePolicy } from 'lockstep/policies';

/** Asks for a cut wherever a hash of every token so far is divisible by `mod`. */
export const sums = definePolicy({
  name: 'sums',
  module: import.meta.url,
  params: { mod: 11 },
  prepare: () => null,
  start: () => ({ sum: 0 }),
  push: (state, token, { params }) => {
    state.sum = (state.sum * 31 + token) % 65_521;
    return state.sum % params.mod === 0;
  },
});
