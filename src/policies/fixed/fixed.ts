// fixed: a cut every `size` tokens, as in the paper.
import { definePolicy } from '../define.ts';

/**
 * Asks for a cut after every `size` tokens (counted from the last actual cut).
 * The paper's S is 4096; the default fits models of a few thousand tokens of context.
 */
export const fixed = definePolicy({
  name: 'fixed',
  module: import.meta.url,
  params: { size: 512 },
  check: ({ size }, refuse) => {
    if (size < 1) refuse('size', 'an integer >= 1');
  },
  start: () => ({ length: 0 }),
  push: (state, _token, { params }) => {
    state.length += 1;
    return state.length >= params.size;
  },
  cut: (state) => {
    state.length = 0;
  },
});
