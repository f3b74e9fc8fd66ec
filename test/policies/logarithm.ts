// A policy that computes with floating point by way of a portable package.
import ln from '@stdlib/math-base-special-ln';
import { definePolicy } from 'lockstep/policies';

/** Asks where the logarithms of the tokens since the last cut add up to `sum`. */
export const logarithm = definePolicy({
  name: 'logarithm',
  module: import.meta.url,
  params: { sum: 100 },
  start: () => ({ sum: 0 }),
  push: (state, token, { params }) => {
    state.sum += ln(token + 1);
    return state.sum >= params.sum;
  },
  cut: (state) => {
    state.sum = 0;
  },
});
