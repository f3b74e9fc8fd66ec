// The one strict reader of weights: which files they are, what they hold, and whose they are.
import path from 'node:path';
import { readModel } from '../contract/model.ts';
import type { Contract } from '../contract/schema.ts';
import type { WeightsIdentity } from '../contract/schema-weights.ts';
import { identityOf } from '../contract/weights-identity.ts';
import { LockstepError } from '../errors.ts';
import { weightsChecked } from './check.ts';
import { fileSet, holdsNoWeights } from './files.ts';
import { hashOnce } from './hash.ts';
import { list, readHeader, type Stored } from './header.ts';
import { embedding, expectedTensors, head, ignored, type WeightShape } from './table.ts';

/** A checkpoint's weights, as their headers say. */
export interface Weights {
  readonly dir: string;
  /** Names of the files in the folder, sorted. */
  readonly files: readonly string[];
  readonly tensors: ReadonlyMap<string, Stored>;
}

export interface WeightsCheck {
  /** Read the bytes too: the head beside a tied embedding, the identity (default: `weightsChecked()`). */
  bytes?: boolean;
}

/**
 * Read the headers of a checkpoint's weights, and refuse what readers would not all read alike
 * (counterpart of `read` in python/lockstep/weights/reader.py).
 *
 * @throws LS_MODEL_WEIGHTS when there are none; LS_MODEL_WEIGHTS_FILES, _INDEX, _HEADER for files that
 *   are damaged or contradict each other; LS_MODEL_WEIGHTS_TENSORS where they are not what config.json
 *   asks for; LS_MODEL_WEIGHTS_TIED for an output head that is not the embedding it is tied to
 */
export async function readWeights(dir: string, check: WeightsCheck = {}): Promise<Weights> {
  const { shape, family } = await readModel(dir);
  const { files, map } = await fileSet(dir);
  const tensors = new Map<string, Stored>();
  for (const file of files) {
    for (const [name, stored] of await readHeader(dir, file)) {
      const other = tensors.get(name)?.file ?? map?.get(name) ?? file;
      if (other !== file || (map !== null && !map.has(name))) {
        throw strayTensor(name, file, other === file ? null : other);
      }
      tensors.set(name, stored);
    }
  }
  for (const [name, file] of map ?? []) {
    if (!tensors.has(name)) throw indexed(`expected ${name} in ${file}, got no such tensor there`);
  }
  compare(tensors, shape, family);
  if (shape.tied && tensors.has(head) && (check.bytes ?? weightsChecked())) {
    await compareHead(dir, tensors);
  }
  return { dir, files, tensors };
}

/** SHA-256 of every file, computed once while a file stays as it is. */
export async function identify({ dir, files }: Weights): Promise<WeightsIdentity> {
  const sums: Record<string, string> = {};
  for (const name of files) sums[name] = await hashOnce(path.join(dir, name));
  return identityOf(sums);
}

/**
 * Compare a checkpoint's weights with those that its contract records.
 *
 * @param recorded `trained` of lockstep.json
 * @param needed refuse a folder without weights too; by default it may hold an exported graph alone
 * @throws what `readWeights` throws; LS_WEIGHTS_IDENTITY
 */
export async function checkWeights(
  dir: string,
  recorded: Contract['trained'],
  needed = false,
): Promise<Weights | null> {
  if (identityOf(recorded.weights.files).sha256 !== recorded.weights.sha256) {
    throw foreign(
      `expected trained.weights.sha256 ${identityOf(recorded.weights.files).sha256}, got ${recorded.weights.sha256} in lockstep.json`,
      recorded,
    );
  }
  if (!needed && (await holdsNoWeights(dir))) return null;
  const weights = await readWeights(dir);
  const names = Object.keys(recorded.weights.files).sort();
  if (names.join('\n') !== weights.files.join('\n')) {
    throw foreign(
      `expected the weights ${names.join(', ')}, as lockstep.json records them, got ${weights.files.join(', ')}`,
      recorded,
    );
  }
  if (!weightsChecked()) return weights;
  const found = await identify(weights);
  for (const name of names) {
    const [wanted, got] = [recorded.weights.files[name], found.files[name]];
    if (wanted === got) continue;
    throw foreign(
      `expected ${name} with SHA-256 ${wanted}, as lockstep.json records it, got ${got}`,
      recorded,
    );
  }
  return weights;
}

function compare(tensors: ReadonlyMap<string, Stored>, shape: WeightShape, family: string): void {
  if (shape.layers > tensors.size) {
    throw tensor(
      'num_hidden_layers',
      `expected the tensors of ${shape.layers} layers, as config.json says, got ${tensors.size} in all`,
    );
  }
  const expected = expectedTensors({ ...shape, tied: false });
  const found = [...tensors.keys()].filter((name) => !ignored.test(name)).sort();
  const unused = found.filter((name) => !expected.has(name));
  const [first] = unused;
  if (first !== undefined) {
    const { file, shape: held } = tensors.get(first) as Stored;
    const count = unused.length === 1 ? '' : ` (the first of ${unused.length})`;
    throw tensor(
      first,
      `expected only tensors that a ${family} of this config.json uses, got ${first} ${list(held)} in ${file}${count}`,
    );
  }
  for (const [name, wanted] of expected) {
    const stored = tensors.get(name);
    if (stored === undefined) {
      if (name !== head) throw tensor(name, `expected ${name} ${list(wanted)}, got no such tensor`);
      if (shape.tied) continue;
      throw tied(
        `expected ${head} ${list(wanted)} with tie_word_embeddings false, got no such tensor`,
      );
    }
    if (list(stored.shape) !== list(wanted)) {
      throw tensor(
        name,
        `expected ${name} ${list(wanted)}, as config.json says, got ${list(stored.shape)} in ${stored.file}`,
      );
    }
    if (!floats.has(stored.dtype)) {
      throw tensor(
        name,
        `expected ${name} in ${[...floats].join(', ')}, got ${stored.dtype} in ${stored.file}`,
      );
    }
  }
}

const floats = new Set(['F64', 'F32', 'BF16', 'F16']);

async function compareHead(dir: string, tensors: ReadonlyMap<string, Stored>): Promise<void> {
  const [a, b] = [tensors.get(embedding) as Stored, tensors.get(head) as Stored];
  const bytes = ({ file, begin, end }: Stored): Promise<string> =>
    hashOnce(path.join(dir, file), { range: [begin, end] });
  if (a.dtype === b.dtype && (await bytes(a)) === (await bytes(b))) return;
  throw tied(
    `expected ${head} to equal ${embedding}, as config.json ties them, got another in ${b.file}`,
  );
}

function strayTensor(name: string, file: string, other: string | null): LockstepError {
  const place = other === null ? 'nowhere' : `in ${other}`;
  return indexed(`expected ${name} ${place}, got it in ${file}`);
}

function indexed(message: string): LockstepError {
  return new LockstepError('LS_MODEL_WEIGHTS_INDEX', `model.safetensors.index.json: ${message}`, {
    fix: 'Copy the index and its files again from the original checkpoint.',
    field: 'model.safetensors.index.json',
  });
}

function tensor(name: string, message: string): LockstepError {
  return new LockstepError('LS_MODEL_WEIGHTS_TENSORS', message, {
    fix: 'Weights and config.json belong to different models: copy both again from one checkpoint.',
    field: name,
  });
}

function tied(message: string): LockstepError {
  return new LockstepError('LS_MODEL_WEIGHTS_TIED', message, {
    fix: 'Set tie_word_embeddings in config.json to what the model was trained with: true uses the embedding as the head, false needs lm_head.weight.',
    field: 'tie_word_embeddings',
  });
}

function foreign(message: string, { steps }: Contract['trained']): LockstepError {
  const fix =
    steps > 0
      ? 'Put back the weights that the training wrote (lockstep train --resume brings them back); another model’s weights need a contract of their own: lockstep attach'
      : 'Put back the weights that the contract was attached to, or attach it to these: lockstep attach MODEL --config F --out DIR';
  return new LockstepError('LS_WEIGHTS_IDENTITY', message, { fix, field: 'trained.weights' });
}
