// A policy that fails on some sequences: on those that hold a token three times in a row.
import { definePolicy } from 'lockstep/policies';

/** Asks for a cut as `sums` does, and throws at the third `token` in a row. */
export const throws = definePolicy({
  name: 'throws',
  module: import.meta.url,
  params: { token: 77, mod: 11 },
  prepare: () => null,
  start: () => ({ sum: 0, row: 0 }),
  push: (state, token, { params }) => {
    state.row = token === params.token ? state.row + 1 : 0;
    if (state.row === 3) throw new Error('three in a row');
    state.sum = (state.sum * 31 + token) % 65_521;
    return state.sum % params.mod === 0;
  },
});
