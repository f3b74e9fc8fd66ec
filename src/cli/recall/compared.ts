// --compare: other checkpoints, measured on the same documents. Their rows are called `beside-NAME`, as in stored results.
import path from 'node:path';
import { readContract } from '../../checkpoint/index.ts';
import { type Contract, isTrained } from '../../contract/index.ts';
import { LockstepError } from '../../errors.ts';
import type { EvalEngine, EvalRow } from '../eval/rows.ts';

export interface ComparedCheckpoint {
  /** Name of its folder. */
  name: string;
  dir: string;
  digest: string;
  trained: boolean;
}

/** @throws LS_CONTRACT_*; LS_RECALL_BESIDE for another tokenizer or two folders of one name */
export async function openCompared(
  dirs: readonly string[],
  contract: Contract,
): Promise<ComparedCheckpoint[]> {
  const found: ComparedCheckpoint[] = [];
  for (const asked of dirs) {
    const dir = path.resolve(asked);
    const { contract: other } = await readContract(dir);
    const name = path.basename(dir);
    if (other.tokenizer.sha256 !== contract.tokenizer.sha256) {
      throw problem(`expected the same tokenizer in ${dir}, got another`);
    }
    if (found.some((one) => one.name === name)) {
      throw problem(`expected folders with different names, got ${name} twice`);
    }
    found.push({ name, dir, digest: other.digest, trained: isTrained(other) });
  }
  return found;
}

function problem(message: string): LockstepError {
  return new LockstepError('LS_RECALL_BESIDE', message, {
    fix: 'All checkpoints get the same token ids: name other checkpoints with --compare.',
    field: 'compare',
  });
}

/** Segmented rows, named after their folders. */
export function comparedRows(
  others: readonly ComparedCheckpoint[],
  engine: EvalEngine,
  precision: string | null,
): EvalRow[] {
  return others.map(({ name, dir, trained }) => ({
    name: `beside-${name}`,
    weights: trained ? 'trained' : 'untrained',
    execution: 'segmented',
    ...{ engine, precision, dir, scratch: false },
  }));
}
