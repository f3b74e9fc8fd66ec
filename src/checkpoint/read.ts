// Reads a contract and verifies it: schema, digest, policy, tokenizer, model, weights, golden plans.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { checkNames } from '../checkpoint-names.ts';
import { difference } from '../contract/difference.ts';
import { digestOf, sha256, sha256File } from '../contract/digest.ts';
import { contractFile, readDocument, remake } from '../contract/document.ts';
import { readModel, segmentedArchitecture } from '../contract/model.ts';
import { segmentedType } from '../contract/model-type.ts';
import type { Contract } from '../contract/schema.ts';
import { LockstepError } from '../errors.ts';
import { interleavedPlans, PolicyHost, plan } from '../planner/index.ts';
import { systemProblem } from '../system-error.ts';
import { readEnds } from '../tokenizer/ends.ts';
import { checkWeights } from '../weights/read.ts';
import type { ContractFiles } from './make.ts';

export interface ReadOptions {
  /**
   * `checked` where any are there (default: a folder may hold an exported graph alone), `needed` by
   * what computes with them, `ignored` by what only plans.
   */
  weights?: 'checked' | 'needed' | 'ignored';
}

/**
 * Read and check the contract of a checkpoint: schema, digest, policy.js, tokenizer.json, config.json,
 * the weights and whose they are, and the golden sequences, planned again by this runtime.
 *
 * @throws LS_CONTRACT_MISSING, _SCHEMA, _VERSION, _DIGEST, _POLICY, _TOKENIZER, _ARCHITECTURE, _GOLDEN;
 *   each names the field and both values; LS_MODEL_* for a config.json or weights that are none, or not
 *   supported; LS_WEIGHTS_IDENTITY
 */
export async function readContract(dir: string, options: ReadOptions = {}): Promise<ContractFiles> {
  await checkNames(dir);
  const contract = await readDocument(dir);
  const digest = digestOf(contract);
  if (digest !== contract.digest) {
    throw edited('DIGEST', 'digest', digest, contract.digest, contractFile);
  }
  const policySource = await readPolicy(dir, contract);
  await checkTokenizer(dir, contract);
  await checkModel(dir, contract);
  if (options.weights !== 'ignored') {
    await checkWeights(dir, contract.trained, options.weights === 'needed');
  }
  const files = { contract, policySource };
  replayGolden(files);
  return files;
}

async function readPolicy(dir: string, contract: Contract): Promise<string> {
  const file = path.join(dir, contract.policy.file);
  const source = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new LockstepError('LS_CONTRACT_POLICY', `expected ${file}, got ${systemProblem(cause)}`, {
      fix: remake,
      field: 'policy.file',
      cause,
    });
  });
  const actual = sha256(source);
  if (actual !== contract.policy.sha256) {
    throw edited('POLICY', 'policy.sha256', contract.policy.sha256, actual, contract.policy.file);
  }
  return source;
}

async function checkTokenizer(dir: string, contract: Contract): Promise<void> {
  const actual = await sha256File(path.join(dir, 'tokenizer.json')).catch(
    (cause: NodeJS.ErrnoException) => {
      throw new LockstepError(
        'LS_CONTRACT_TOKENIZER',
        `expected tokenizer.json in ${dir}, got ${systemProblem(cause)}`,
        {
          fix: remake,
          field: 'tokenizer.sha256',
          cause,
        },
      );
    },
  );
  if (actual !== contract.tokenizer.sha256) {
    throw edited(
      'TOKENIZER',
      'tokenizer.sha256',
      contract.tokenizer.sha256,
      actual,
      'tokenizer.json',
    );
  }
}

async function checkModel(dir: string, contract: Contract): Promise<void> {
  const model = await readModel(dir);
  const compare = (field: string, expected: unknown, actual: unknown, where: string): void => {
    const other = difference(field, expected, actual);
    if (other !== null) throw edited('ARCHITECTURE', ...other, where);
  };
  const { config, shape } = model;
  const named = [segmentedArchitecture(model.family)];
  compare('architectures', named, config['architectures'], 'config.json');
  compare('model_type', segmentedType(shape.family), config['model_type'], 'config.json');
  compare('model', contract.model, shape, 'config.json');
  compare('tokenizer.size', shape.vocabulary, contract.tokenizer.size, contractFile);
  compare('heads.long.length', shape.layers, contract.heads.long.length, contractFile);
  contract.heads.long.forEach((heads, layer) => {
    const missing = heads.find((head) => head >= shape.kvHeads);
    if (missing === undefined) return;
    const below = `KV heads below ${shape.kvHeads}`;
    throw edited('ARCHITECTURE', `heads.long[${layer}]`, below, missing, contractFile);
  });
  const beyond = contract.retrieval.layers.find((layer) => layer >= shape.layers);
  if (beyond !== undefined) {
    const below = `layers below ${shape.layers}`;
    throw edited('ARCHITECTURE', 'retrieval.layers', below, beyond, contractFile);
  }
  const ends = await readEnds(dir, config, shape.vocabulary);
  const told = 'eos_token of tokenizer_config.json, eos_token_id of config and generation_config';
  const other = difference('tokenizer.ends', contract.tokenizer.ends, ends);
  if (other !== null)
    throw edited('TOKENIZER', 'tokenizer.ends', contract.tokenizer.ends, ends, told);
}

/**
 * Plan the golden sequences here and compare: this runtime cuts as the one that made the contract, each
 * sequence alone and all of them in turns.
 */
function replayGolden(files: ContractFiles): void {
  const { digest, golden } = files.contract;
  if (replayed.has(digest)) return;
  const sequences = golden.map(({ tokens }) => tokens);
  const host = new PolicyHost(files);
  try {
    compareGolden(
      files,
      sequences.map((tokens) => plan(host, tokens)),
    );
    compareGolden(files, interleavedPlans(files, sequences, host));
  } finally {
    host.close();
  }
  replayed.add(digest);
}

/** Digests whose golden sequences this process has planned. A digest has all that a plan depends on. */
const replayed = new Set<string>();

function compareGolden({ contract }: ContractFiles, plans: readonly number[][]): void {
  for (const [at, { boundaries }] of contract.golden.entries()) {
    const actual = plans[at] as number[];
    const part = boundaries.findIndex((boundary, i) => actual[i] !== boundary);
    const first = part === -1 ? boundaries.length : part;
    if (part === -1 && actual.length === boundaries.length) continue;
    throw edited(
      'GOLDEN',
      `golden[${at}].boundaries[${first}]`,
      boundaries[first] ?? 'no boundary',
      actual[first] ?? 'no boundary',
      'policy.js as this runtime runs it',
    );
  }
}

function edited(
  kind: 'DIGEST' | 'POLICY' | 'TOKENIZER' | 'ARCHITECTURE' | 'GOLDEN',
  field: string,
  expected: unknown,
  actual: unknown,
  where: string,
): LockstepError {
  const show = (value: unknown): string =>
    value === undefined ? 'nothing' : typeof value === 'string' ? value : JSON.stringify(value);
  return new LockstepError(
    `LS_CONTRACT_${kind}`,
    `expected ${field} to be ${show(expected)}, got ${show(actual)} (${where})`,
    {
      fix: `A file of this checkpoint was edited, or comes from another checkpoint. ${remake}`,
      field,
    },
  );
}
