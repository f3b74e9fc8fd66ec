// A contract on a checkpoint without training: weights linked, the rest written, all or nothing.
import { randomUUID } from 'node:crypto';
import {
  copyFile,
  link,
  lstat,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';
import { contractFile } from '../contract/document.ts';
import { type ModelInfo, readModel } from '../contract/model.ts';
import { LockstepError } from '../errors.ts';
import { isInside } from '../inside.ts';
import { toolTemplateFile } from '../template/source.ts';
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';
import { readWeights, type Weights } from '../weights/read.ts';
import { buildAtomically } from './atomic-folder.ts';
import { type BosWarning, bosWarning } from './bos.ts';
import { modelCard } from './card.ts';
import { type ContractFiles, type ContractSettings, makeContract } from './make.ts';
import { copySidecarFile } from './sidecar-files.ts';
import { probeFile, writeContract } from './write.ts';

export interface AttachOptions {
  config: ContractSettings;
  /** Folder of the checkpoint. */
  modelDir: string;
  /** Folder to make. */
  out: string;
  /** Replace `out` where it exists. */
  force?: boolean;
  /** Replace it where it was trained, too. */
  discardTraining?: boolean;
  /** Called with warnings about the new contract. */
  warn?: (warning: BosWarning) => void;
}

/**
 * Make a checkpoint folder that carries a contract: hard links to the weights (symbolic ones across
 * devices), copies of tokenizer and settings, lockstep.json, policy.js and a model card.
 * It is built beside `out` and renamed, so `out` is whole or absent.
 *
 * @throws LS_ATTACH_EXISTS, LS_ATTACH_TRAINED, LS_ATTACH_SAME, LS_ATTACH_WRITE, LS_MODEL_*, LS_CONFIG_INVALID, LS_POLICY_*
 */
export async function attach(options: AttachOptions): Promise<ContractFiles> {
  const { config, force = false } = options;
  const modelDir = path.resolve(options.modelDir);
  const out = path.resolve(options.out);
  const examined = await examine(modelDir);
  const { model, weights } = examined;
  await checkTarget(modelDir, out, options);
  const made = await contractFor(examined, config, options.warn);
  return await buildAtomically(out, 'LS_ATTACH_WRITE', async (building) => {
    for (const name of weights.files) {
      await linkFile(path.join(modelDir, name), path.join(building, name));
    }
    for (const name of await sidecarFiles(modelDir)) {
      await copySidecarFile(modelDir, building, name);
    }
    const files = await writeContract(building, made);
    await writeFile(path.join(building, 'README.md'), modelCard(files.contract, model));
    await exchange(building, out, force);
    return files;
  });
}

/** A checkpoint that a contract may be put on. */
export interface Examined {
  model: ModelInfo;
  weights: Weights;
  tokenizer: Tokenizer;
}

/**
 * Check a checkpoint as `attach` does, without a config.
 *
 * @throws LS_CHECKPOINT_*, LS_MODEL_*, LS_TOKENIZER_*
 */
export async function examine(modelDir: string): Promise<Examined> {
  const model = await readModel(modelDir);
  const weights = await readWeights(modelDir, { bytes: true });
  return { model, weights, tokenizer: await loadTokenizer(modelDir) };
}

/**
 * The contract of a config for an examined checkpoint.
 *
 * @throws what `makeContract` throws
 */
export async function contractFor(
  { model, tokenizer }: Examined,
  config: ContractSettings,
  warn?: AttachOptions['warn'],
): Promise<ContractFiles> {
  const made = await makeContract({ config, modelDir: model.dir, tokenizer });
  const warning = warn && (await bosWarning(made.contract, tokenizer));
  if (warning) warn?.(warning);
  return made;
}

export async function checkTarget(
  modelDir: string,
  out: string,
  { force, discardTraining }: Pick<AttachOptions, 'force' | 'discardTraining'> = {},
): Promise<void> {
  if (out === modelDir || modelDir.startsWith(out + path.sep)) throw sameFolder(out);
  const there = await lstat(out).catch(() => null);
  if (there === null) return;
  if (force !== true) {
    throw new LockstepError(
      'LS_ATTACH_EXISTS',
      `expected a folder that does not exist, got ${out}`,
      {
        fix: 'Name another folder with --out, or replace this one with --force.',
        field: 'out',
      },
    );
  }
  // --force is for checkpoints, not for whatever else a mistyped path names.
  const names = there.isDirectory() ? await readdir(out) : null;
  if (names?.includes(contractFile)) {
    const steps = await stepsTrained(out);
    if (steps === 0 || discardTraining === true) return;
    throw new LockstepError(
      'LS_ATTACH_TRAINED',
      `expected --discard-training to replace a trained checkpoint, got --force alone for ${out}, trained ${steps === null ? 'for an unknown number of' : steps} steps`,
      {
        fix: 'Name another folder with --out; or add --discard-training, and its training is lost.',
        field: 'discard-training',
      },
    );
  }
  if (names?.length === 0) return;
  throw new LockstepError(
    'LS_ATTACH_EXISTS',
    `expected --force to replace a checkpoint with ${contractFile}, got something else at ${out}`,
    {
      fix: 'Remove it yourself if you are sure, or name another folder with --out.',
      field: 'out',
    },
  );
}

/**
 * Refuse a checkpoint inside the one that it is made from: it would travel with it, and go with it. What a
 * command makes for itself and removes again may lie there.
 *
 * @throws LS_ATTACH_SAME
 */
export async function refuseInside(modelDir: string, out: string): Promise<void> {
  if (await isInside(modelDir, out)) throw sameFolder(out);
}

function sameFolder(out: string): LockstepError {
  return new LockstepError(
    'LS_ATTACH_SAME',
    `expected a folder that is neither the model's nor inside it, got ${out}`,
    {
      fix: 'Name a new folder beside it with --out; the original checkpoint stays as it is.',
      field: 'out',
    },
  );
}

/** Steps that a checkpoint's contract of any version records; null where it does not say. */
async function stepsTrained(dir: string): Promise<number | null> {
  try {
    const text = await readFile(path.join(dir, contractFile), 'utf8');
    const { trained } = JSON.parse(text) as { trained?: { steps?: unknown } | null };
    if (trained === null) return 0;
    return typeof trained?.steps === 'number' ? trained.steps : null;
  } catch {
    return null;
  }
}

/** Files beside the weights that make the checkpoint work: tokenizer, templates, generation settings. */
async function sidecarFiles(modelDir: string): Promise<string[]> {
  const entries = await readdir(modelDir, { withFileTypes: true });
  const files = entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => entry.name)
    .filter(
      (name) =>
        /\.(json|jinja|model|txt)$/.test(name) && name !== contractFile && name !== probeFile,
    );
  return [...files, toolTemplateFile];
}

/**
 * A hard link; where the file lies on another device, a symbolic one; where the file system has
 * neither, a copy. Hub caches hold links themselves: what they point to is linked.
 */
export async function linkFile(from: string, to: string): Promise<void> {
  const file = await realpath(from);
  try {
    await link(file, to);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (!['EXDEV', 'EPERM', 'ENOTSUP', 'EMLINK', 'ENOSYS'].includes(code ?? '')) throw error;
    await symlink(file, to).catch(() => copyFile(file, to));
  }
}

/** Put the finished folder in place; the old one goes only after the new one is there. */
export async function exchange(building: string, out: string, force: boolean): Promise<void> {
  const old = `${out}.${randomUUID().slice(0, 8)}.old`;
  const replaced = force && (await lstat(out).catch(() => null)) !== null;
  if (replaced) await rename(out, old);
  try {
    await rename(building, out);
  } catch (error) {
    if (replaced) await rename(old, out);
    throw error;
  }
  if (replaced) await rm(old, { recursive: true, force: true });
}
