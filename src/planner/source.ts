// What a planner is made of.
import type { Contract } from '../contract/schema.ts';
import type { RuntimeIdentity } from './runtime/versions.ts';

/** The part of a contract that decides about cuts, and the policy it names. */
export interface PolicySource {
  readonly contract: {
    /** `runtime`: the one that new contracts are made for where it is absent. */
    readonly policy: Pick<Contract['policy'], 'name'> & {
      readonly runtime?: RuntimeIdentity | undefined;
    };
    readonly tables: Contract['tables'];
    readonly segment: Contract['segment'];
    readonly tokenizer: Pick<Contract['tokenizer'], 'size'>;
  };
  /** Text of policy.js. */
  readonly policySource: string;
}

/** A contract and the policy it names, as they lie in a checkpoint. */
export interface PlannerSource extends PolicySource {
  readonly contract: Contract;
}
