// A policy with a place for code that the bundler would refuse, or that fails: token 7 runs it.
import { definePolicy } from 'lockstep/policies';

export interface TrapState {
  seen: number;
  kept: unknown;
}

/** The tests put other statements in the place of this one. */
function trapped(state: TrapState, tables: { list: number[] }): boolean {
  return state.seen < tables.list.length;
}

export const trap = definePolicy({
  name: 'trap',
  module: import.meta.url,
  prepare: () => ({ list: [1, 2, 3] }),
  start: (): TrapState => ({ seen: 0, kept: null }),
  push: (state, token, { tables }) => {
    state.seen += tables.list.length;
    return token === 7 ? trapped(state, tables) : false;
  },
});
