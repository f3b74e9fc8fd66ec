// Whether a checkpoint was trained under its contract, or only had it attached.
import type { Contract } from './schema.ts';

/** `trained` of a contract that was attached. */
export const neverTrained: Contract['trained'] = Object.freeze({ steps: 0, tokens: 0 });

export function isTrained({ trained }: Pick<Contract, 'trained'>): boolean {
  return trained.steps > 0;
}
