// Lets a training resume under its own contract, even if this Lockstep bundles the same policy to other bytes.

import { difference } from '../contract/difference.ts';
import { canonicalJson } from '../contract/digest.ts';
import type { Contract } from '../contract/schema.ts';
import { plan } from '../planner/index.ts';
import { rebuild } from '../policies/rebuild.ts';
import type { ContractFiles } from './make.ts';
import { readContract } from './read.ts';
import { writeContractFiles } from './write.ts';

/**
 * Give the checkpoint in `dir`, just attached, the contract of the checkpoint in `earlier`, where the two
 * differ only in what Lockstep itself wrote: the bytes of one of its own policies, the runtime, and the
 * golden sequences, which the new policy has to cut alike.
 *
 * @returns whether the earlier contract was taken
 * @throws LS_CONTRACT_* where the earlier checkpoint cannot be read
 */
export async function adoptContract(
  dir: string,
  made: ContractFiles,
  earlier: string,
): Promise<boolean> {
  const old = await readContract(earlier, { weights: 'ignored' });
  if (old.contract.digest === made.contract.digest) return false;
  // The bytes of a user's policy are the user's own: where they differ, so may the policy.
  if (rebuild(old.contract.policy) === null) return false;
  if (difference('contract', settled(old.contract), settled(made.contract)) !== null) return false;
  for (const { tokens, boundaries } of old.contract.golden) {
    if (canonicalJson(plan(made, tokens)) !== canonicalJson(boundaries)) return false;
  }
  const { training, trained } = made.contract;
  const contract = { ...old.contract, training, trained };
  await writeContractFiles(dir, { contract, policySource: old.policySource });
  return true;
}

/** What the settings of a contract, and not the Lockstep that wrote it, decide. */
function settled({ policy, ...rest }: Contract): object {
  const { golden: _golden, digest: _digest, training: _training, trained: _trained, ...own } = rest;
  const { name, params } = policy;
  return JSON.parse(canonicalJson({ ...own, policy: { name, params } })) as object;
}
