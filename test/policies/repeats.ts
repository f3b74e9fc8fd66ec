// A user's own policy, with tables, parameters and a list in its state.
import { definePolicy, has } from 'lockstep/policies';

/** Asks for a cut after a token with a given ending that was not among the last `memory` of its kind. */
export const repeats = definePolicy({
  name: 'repeats',
  module: import.meta.url,
  params: { memory: 4, ending: 'e' },
  prepare: (vocabulary, { ending }) => ({
    ends: vocabulary.select((text) => text.toLowerCase().endsWith(ending)),
  }),
  start: () => ({ recent: [] as number[] }),
  push: ({ recent }, token, { tables, params }) => {
    if (!has(tables.ends, token)) return false;
    const fresh = !recent.includes(token);
    recent.push(token);
    if (recent.length > params.memory) recent.shift();
    return fresh;
  },
});
