// An adapter (LoRA) in PEFT's layout, and whose it is (counterpart of python/lockstep/weights/adapter.py).
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import type { Contract } from '../contract/schema.ts';
import { sha256Digits } from '../contract/schema-numbers.ts';
import { identityOf } from '../contract/weights-identity.ts';
import { LockstepError } from '../errors.ts';
import { checkInside } from '../inside.ts';
import { hashOnce } from './hash.ts';

const files = { config: 'adapter_config.json', tensors: 'adapter_model.safetensors' } as const;
const seal = 'lockstep-adapter.json';

/** The largest rank that vLLM makes room for. */
export const mostRank = 512;

const sealSchema = z.object({
  adapter: z.literal(1),
  contract: sha256Digits,
  base: sha256Digits,
  files: z.strictObject({ [files.config]: sha256Digits, [files.tensors]: sha256Digits }),
});
const configSchema = z.object({ peft_type: z.literal('LORA'), r: z.int().min(1) });

export interface Adapter {
  readonly dir: string;
  /** Digest of the contract that it was trained under. */
  readonly contract: string;
  /** SHA-256 of the weights that it was trained on. */
  readonly base: string;
  readonly rank: number;
  /** Of its two files together. */
  readonly sha256: string;
}

/**
 * The adapter in a folder. Python reads its matrices, and refuses those that do not fit.
 *
 * @throws LS_ADAPTER_FILE for one that is none, or damaged; LS_CHECKPOINT_LINK
 */
export async function readAdapter(dir: string): Promise<Adapter> {
  const sealed = sealSchema.safeParse(await json(dir, seal));
  if (!sealed.success) {
    throw bad(`expected format 1, a contract, a base and two files in ${seal} (${dir})`);
  }
  const { contract, base, files: sums } = sealed.data;
  for (const name of Object.values(files)) {
    await present(dir, name);
    const [wanted, got] = [sums[name], await hashOnce(path.join(dir, name))];
    if (wanted !== got) {
      throw bad(`expected ${name} with SHA-256 ${wanted}, got ${got} (${dir})`, name);
    }
  }
  const config = configSchema.safeParse(await json(dir, files.config));
  if (!config.success) throw bad(`expected plain LoRA in ${files.config} (${dir})`);
  return { dir, contract, base, rank: config.data.r, sha256: identityOf(sums).sha256 };
}

/**
 * Refuse an adapter that does not belong to a checkpoint.
 *
 * @throws LS_ADAPTER_CONTRACT, LS_ADAPTER_BASE, LS_ADAPTER_RANK
 */
export function checkAdapter(adapter: Adapter, contract: Contract): void {
  const { dir } = adapter;
  if (adapter.contract !== contract.digest) {
    throw new LockstepError(
      'LS_ADAPTER_CONTRACT',
      `expected an adapter trained under the contract ${contract.digest}, got ${adapter.contract} in ${dir}`,
      {
        fix: 'Serve it with the checkpoint that its training began from, or train it again under this contract.',
        field: 'contract',
      },
    );
  }
  const base = contract.trained.weights.sha256;
  if (adapter.base !== base) {
    throw new LockstepError(
      'LS_ADAPTER_BASE',
      `expected an adapter of the weights ${base}, got one of ${adapter.base} in ${dir}`,
      {
        fix: 'Serve it with the checkpoint that its training began from: lockstep attach MODEL --config F --out DIR',
        field: 'base',
      },
    );
  }
  if (adapter.rank > mostRank) {
    throw new LockstepError(
      'LS_ADAPTER_RANK',
      `expected a rank of at most ${mostRank}, got ${adapter.rank} in ${dir}`,
      {
        fix: 'Serve the checkpoint with the adapter merged (the folder above adapter/).',
        field: 'r',
      },
    );
  }
}

async function json(dir: string, name: string): Promise<unknown> {
  await present(dir, name);
  try {
    return JSON.parse(await readFile(path.join(dir, name), 'utf8'));
  } catch {
    throw bad(`expected a JSON object in ${name}, got something else (${dir})`, name);
  }
}

async function present(dir: string, name: string): Promise<void> {
  const file = path.join(dir, name);
  await checkInside(dir, file);
  if ((await stat(file).catch(() => null))?.isFile()) return;
  throw new LockstepError('LS_ADAPTER_FILE', `expected ${name} in ${dir}, got no such file`, {
    fix: 'Name the folder adapter/ of a checkpoint that was trained with training.lora and nothing else, or one that lockstep.save_adapter wrote; other adapters carry no contract.',
    field: name,
  });
}

function bad(message: string, field?: string): LockstepError {
  const fix =
    'Copy the folder again from the training’s checkpoint (adapter/), with all its files.';
  return new LockstepError('LS_ADAPTER_FILE', message, {
    fix,
    ...(field === undefined ? {} : { field }),
  });
}
