// A plain checkpoint out of a segmented one, on purpose: the same weights, run with full attention.
import { lstat, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { readModel } from '../contract/model.ts';
import { plainType } from '../contract/model-type.ts';
import type { Contract } from '../contract/schema.ts';
import { LockstepError } from '../errors.ts';
import { isInside } from '../inside.ts';
import { toolTemplateFile } from '../template/source.ts';
import { readWeights } from '../weights/read.ts';
import { buildAtomically } from './atomic-folder.ts';
import { linkFile } from './attach.ts';
import { detachedCard } from './card.ts';
import { readContract } from './read.ts';
import { copySidecarFile } from './sidecar-files.ts';

/** What a plain checkpoint takes over beside its weights; nothing of a contract is among it. */
const sidecarFiles = [
  'generation_config.json',
  'model.safetensors.index.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
  'chat_template.json',
  toolTemplateFile,
  'LICENSE',
  'LICENSE.txt',
  'NOTICE',
];

/**
 * Write `out` as an ordinary Hugging Face checkpoint of the same weights (linked as `attach` links
 * them), with the family's own architecture and model_type and a card that says what it was trained
 * for. It is built beside `out` and renamed, so `out` is whole or absent.
 *
 * @returns the contract that was left behind
 * @throws LS_DETACH_EXISTS, LS_DETACH_SAME, LS_DETACH_WRITE, LS_CONTRACT_*, LS_MODEL_*, LS_WEIGHTS_IDENTITY
 */
export async function detach(dir: string, out: string): Promise<Contract> {
  const from = path.resolve(dir);
  const to = path.resolve(out);
  const { contract } = await readContract(from, { weights: 'needed' });
  const model = await readModel(from);
  const { files: weights } = await readWeights(from);
  await refuseExisting(to);
  await refuseInside(from, to);
  await buildAtomically(to, 'LS_DETACH_WRITE', async (building) => {
    for (const name of weights) await linkFile(path.join(from, name), path.join(building, name));
    for (const name of sidecarFiles) {
      await copySidecarFile(from, building, name);
    }
    const config = {
      ...model.config,
      architectures: [`${model.family}ForCausalLM`],
      model_type: plainType(model.config['model_type']),
    };
    await writeFile(path.join(building, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
    const card = detachedCard(path.basename(from), contract);
    await writeFile(path.join(building, 'README.md'), card);
    // Once more: another process may have made it meanwhile, and rename replaces an empty folder.
    await refuseExisting(to);
    await rename(building, to);
  });
  return contract;
}

/** A checkpoint inside another one would travel with it, and go with it. */
async function refuseInside(dir: string, out: string): Promise<void> {
  if (!(await isInside(dir, out))) return;
  throw new LockstepError(
    'LS_DETACH_SAME',
    `expected a folder outside the checkpoint's, ${dir}, got ${out}`,
    { fix: 'Name a folder beside it with --out.', field: 'out' },
  );
}

async function refuseExisting(out: string): Promise<void> {
  if ((await lstat(out).catch(() => null)) === null) return;
  throw new LockstepError('LS_DETACH_EXISTS', `expected a folder that does not exist, got ${out}`, {
    fix: 'Name another folder with --out, or remove this one yourself.',
    field: 'out',
  });
}
