// Type tests: `tsc --noEmit` (npm run typecheck) fails where an expected error does not come.
import { after, anyOf, definePolicy, delimiters, fixed, type Policy, sentences } from './index.ts';

const speakers = definePolicy({
  name: 'speakers',
  params: { names: ['Romeo'], most: 3, loud: false },
  prepare: (vocabulary, { names }) => vocabulary.select((text) => names.includes(text)),
  start: ({ most }) => ({ seen: most }),
  push: (state, token, { tables, params }) => {
    const seen: number = state.seen;
    const first: number | undefined = tables[0];
    const most: number = params.most;
    // @ts-expect-error the state has no such member
    state.other;
    // @ts-expect-error parameters are read-only
    params.most = 4;
    return first === token && seen > most;
  },
  cut: (state) => {
    state.seen = 0;
  },
});

const policy: Policy = speakers({ names: ['Juliet', 'Nurse'], most: 12, loud: true });
speakers();
// @ts-expect-error most is a number
speakers({ most: '12' });
// @ts-expect-error no such parameter
speakers({ least: 1 });
// @ts-expect-error a policy cannot be changed
policy.name = 'other';

// @ts-expect-error push must answer
definePolicy({ name: 'silent', push: () => {} });
// @ts-expect-error push must answer at once
definePolicy({ name: 'slow', push: async () => true });
// @ts-expect-error parameters are JSON
definePolicy({ name: 'dated', params: { date: new Date() }, push: () => true });

anyOf(policy, after(sentences(), 4), fixed({ size: 4 }));
delimiters({ tokens: [1, 2], strings: ['x'] });
// @ts-expect-error a factory is no policy
anyOf(sentences);
// @ts-expect-error a list of ids
delimiters({ tokens: 1 });
