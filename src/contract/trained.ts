// Whether a checkpoint was trained under its contract, or only had it attached.
import type { Contract } from './schema.ts';
import { identityOf } from './weights-identity.ts';

/** `trained` of a contract that lies on no weights yet: `writeContract` records them. */
export const neverTrained: Contract['trained'] = Object.freeze({
  steps: 0,
  tokens: 0,
  weights: identityOf({}),
});

export function isTrained({ trained }: Pick<Contract, 'trained'>): boolean {
  return trained.steps > 0;
}
