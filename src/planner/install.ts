// Last statement of a bundled policy: offers the planner to the host.
import type { Policy } from '../policies/policy.ts';
import { makeAbi } from './abi.ts';

/** Set `realm.lockstep`. */
export function install(realm: object, policy: Policy): void {
  Object.defineProperty(realm, 'lockstep', { value: Object.freeze(makeAbi(policy)) });
}
