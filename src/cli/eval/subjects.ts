// Whose figures `lockstep eval` prints: the checkpoint, and the model it began from under its contract.
import { copyFile, mkdtemp, readFile, realpath, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import {
  type ContractFiles,
  contractFile,
  readContract,
  readWeights,
  writeContract,
} from '../../checkpoint/index.ts';
import { copySidecarFile } from '../../checkpoint/sidecar-files.ts';
import { isTrained, neverTrained, readModel, sha256File } from '../../contract/index.ts';
import { LockstepError } from '../../errors.ts';
import { toolTemplateFile } from '../../template/source.ts';

export type Weights = 'trained' | 'untrained';

/** A folder with the contract on it, and whose weights it holds. */
export interface EvaluatedCheckpoint {
  weights: Weights;
  dir: string;
  /** The folder goes when the evaluation ends. */
  scratch: boolean;
}

export interface EvaluatedCheckpoints {
  files: ContractFiles;
  /** The checkpoint first; alone where it was never trained. */
  all: EvaluatedCheckpoint[];
  /** Folder of the untrained model as its user knows it. */
  base: string | null;
  /** Tokens of a training sequence, where the checkpoint says so. */
  trainingContext: number | null;
  close(): Promise<void>;
}

/**
 * Open a checkpoint for evaluation.
 *
 * @param base folder of the untrained model, by default where the checkpoint says it lies; false: without it
 * @throws LS_CONTRACT_*, LS_EVAL_BASE when the untrained model is not found or does not fit
 */
export function openSubjects(
  dir: string,
  base: string | false | undefined,
): Promise<EvaluatedCheckpoints> {
  return base === false ? openWithoutBase(dir) : openWithBase(dir, base);
}

async function openWithBase(dir: string, base: string | undefined): Promise<EvaluatedCheckpoints> {
  const files = await readContract(dir);
  const state = await trainingState(dir);
  const common = { files, trainingContext: state.sequence };
  if (!isTrained(files.contract)) {
    if (base !== undefined) {
      throw baseError(
        'expected no --base for a checkpoint that was never trained',
        'Leave it out: the checkpoint itself is the untrained model.',
      );
    }
    const all: EvaluatedCheckpoint[] = [{ weights: 'untrained', dir, scratch: false }];
    return { ...common, all, base: dir, close: async () => {} };
  }
  const found = base ?? (state.base === null ? null : path.resolve(dir, state.base));
  if (found === null || !(await stat(found).catch(() => null))?.isDirectory()) {
    throw baseError(
      `expected the model that ${dir} was trained from, got ${found === null ? 'no base model in training/state.json' : `no folder at ${found}`}`,
      'Name its folder with --base, or leave the comparison out with --no-base.',
    );
  }
  const untrained = await underContract(found, files);
  const all: EvaluatedCheckpoint[] = [
    { weights: 'trained', dir, scratch: false },
    { weights: 'untrained', ...untrained },
  ];
  const close = untrained.scratch ? () => removed(untrained.dir) : async () => {};
  return { ...common, all, base: found, close };
}

/** The checkpoint alone (`--no-base`). */
async function openWithoutBase(dir: string): Promise<EvaluatedCheckpoints> {
  const files = await readContract(dir);
  const weights = isTrained(files.contract) ? 'trained' : 'untrained';
  const { sequence } = await trainingState(dir);
  const all: EvaluatedCheckpoint[] = [{ weights, dir, scratch: false }];
  return { files, all, base: null, trainingContext: sequence, close: async () => {} };
}

/** What the trainer wrote beside the weights, as far as it can be read. */
async function trainingState(
  dir: string,
): Promise<{ base: string | null; sequence: number | null }> {
  const file = path.join(dir, 'training', 'state.json');
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null) return { base: null, sequence: null };
  try {
    const { base, settings } = JSON.parse(text) as {
      base?: unknown;
      settings?: { sequence?: unknown };
    };
    const sequence = settings?.sequence;
    return {
      base: typeof base === 'string' ? base : null,
      sequence: typeof sequence === 'number' ? sequence : null,
    };
  } catch {
    return { base: null, sequence: null };
  }
}

/** A folder that holds a model under a contract: itself where it has it, else a temporary one. */
async function underContract(
  base: string,
  files: ContractFiles,
): Promise<Pick<EvaluatedCheckpoint, 'dir' | 'scratch'>> {
  const { contract } = files;
  const model = await readModel(base);
  if ((await carriedDigest(base)) === contract.digest) return { dir: base, scratch: false };
  const { heads, tokenizer } = contract;
  const sha256 = await sha256File(path.join(base, 'tokenizer.json')).catch(() => 'no file');
  for (const [what, wanted, got] of [
    ['layers', heads.long.length, model.layers],
    ['vocabulary', tokenizer.size, model.vocabulary],
    ['tokenizer.json', tokenizer.sha256, sha256],
  ] as const) {
    if (wanted === got) continue;
    throw baseError(
      `expected a base model with ${what} ${wanted}, got ${got} in ${base}`,
      'Name the model that the training began from.',
    );
  }
  const dir = await mkdtemp(path.join(tmpdir(), 'lockstep-untrained-'));
  try {
    for (const name of (await readWeights(base)).files) {
      const from = await realpath(path.join(base, name));
      // Where the file system has no links, a copy; it goes with the folder.
      await symlink(from, path.join(dir, name)).catch(() => copyFile(from, path.join(dir, name)));
    }
    for (const name of sidecarFiles) {
      await copySidecarFile(base, dir, name);
    }
    await writeContract(dir, { ...files, contract: { ...contract, trained: neverTrained } });
  } catch (error) {
    await removed(dir);
    throw error;
  }
  return { dir, scratch: true };
}

function removed(dir: string): Promise<void> {
  return rm(dir, { recursive: true, force: true });
}

const sidecarFiles = [
  'config.json',
  'generation_config.json',
  'model.safetensors.index.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  toolTemplateFile,
];

/** Digest of the untrained contract on a folder; null where it has none, or a trained one. */
async function carriedDigest(dir: string): Promise<string | null> {
  if ((await stat(path.join(dir, contractFile)).catch(() => null)) === null) return null;
  const { contract } = await readContract(dir);
  return isTrained(contract) ? null : contract.digest;
}

function baseError(message: string, fix: string): LockstepError {
  return new LockstepError('LS_EVAL_BASE', message, { fix, field: 'base' });
}
