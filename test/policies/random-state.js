// Policies with memory, one for every list of instructions: counters, queues and hashes in the state.
import { definePolicy } from 'lockstep/policies';

/** Each instruction is [kind, a, b], a and b at least 2; the policy asks where an odd number of them do. */
export const randomState = definePolicy({
  name: 'randomState',
  module: import.meta.url,
  params: { program: [[0, 2, 2]] },
  prepare: () => null,
  start: () => ({
    counter: 0,
    hash: 7,
    cuts: 0,
    recent: [0],
    counts: { even: 0, odd: 0 },
  }),
  push: (state, token, { params }) => {
    let asks = 0;
    for (const [kind, a, b] of params.program) {
      if (kind === 0) {
        // A counter of some tokens, over the whole sequence.
        if (token % a === 0) state.counter += 1;
        asks += state.counter % b === 0 && token % a === 0 ? 1 : 0;
      } else if (kind === 1) {
        // A queue: a token that was seen shortly before.
        asks += state.recent.includes(token % b) ? 1 : 0;
        state.recent.push(token % b);
        if (state.recent.length > a) state.recent.shift();
      } else if (kind === 2) {
        // A hash of all so far.
        state.hash = (state.hash * 31 + token + a) % 65521;
        asks += state.hash % b === 0 ? 1 : 0;
      } else {
        // Counts by kind, and the number of cuts there were.
        const name = token % 2 === 0 ? 'even' : 'odd';
        state.counts[name] += a;
        asks += (state.counts.even + state.cuts) % b === state.counts.odd % b ? 1 : 0;
      }
    }
    return asks % 2 === 1;
  },
  cut: (state) => {
    state.cuts += 1;
    if (state.cuts % 3 === 0) state.recent = [];
  },
});
