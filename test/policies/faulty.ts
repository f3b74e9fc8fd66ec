// Policies that go wrong when a contract is made.
import { definePolicy } from '../../src/policies/index.ts';

const module = import.meta.url;

export const throwsInPrepare = definePolicy({
  name: 'throws-in-prepare',
  module,
  prepare: (): never => {
    throw new RangeError('no such word');
  },
  push: () => false,
});

export const fractionTables = definePolicy({
  name: 'fraction-tables',
  module,
  prepare: () => ({ share: 0.5 }),
  push: () => false,
});

/** Cuts depend on `every`, which is no parameter: the bundle has the one below. */
export const closesOver = (every: number) =>
  definePolicy({ name: 'closes-over', module, push: (_state, token) => token % every === 0 })();

export const closed = closesOver(3);
