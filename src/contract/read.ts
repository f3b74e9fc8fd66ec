// A checkpoint's contract, believed only after everything it says of the checkpoint was checked.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { LockstepError } from '../errors.ts';
import { plan, plansByDetours } from '../planner/index.ts';
import { digestOf, sha256, sha256File } from './digest.ts';
import type { ContractFiles } from './make.ts';
import { readModel, segmentedArchitecture } from './model.ts';
import { type Contract, contractSchema } from './schema.ts';
import { contractFile } from './write.ts';

/**
 * Read and check the contract of a checkpoint: schema, digest, policy.js, tokenizer.json, config.json,
 * and the golden sequences, planned again by this runtime.
 *
 * @throws LS_CONTRACT_MISSING, _SCHEMA, _DIGEST, _POLICY, _TOKENIZER, _ARCHITECTURE, _GOLDEN; each names
 *   the field and both values
 */
export async function readContract(dir: string): Promise<ContractFiles> {
  const contract = await readDocument(dir);
  const digest = digestOf(contract);
  if (digest !== contract.digest) {
    throw edited('DIGEST', 'digest', digest, contract.digest, contractFile);
  }
  const policySource = await readPolicy(dir, contract);
  await checkTokenizer(dir, contract);
  await checkModel(dir, contract);
  const files = { contract, policySource };
  replayGolden(files);
  return files;
}

async function readDocument(dir: string): Promise<Contract> {
  const file = path.join(dir, contractFile);
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new LockstepError('LS_CONTRACT_MISSING', `expected ${file}, got ${cause.code}`, {
      mend: 'Put a contract on the checkpoint: lockstep attach MODEL --config lockstep.config.ts --out DIR',
      cause,
    });
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new LockstepError(
      'LS_CONTRACT_SCHEMA',
      `expected JSON in ${file}, got: ${(cause as Error).message}`,
      {
        mend: remake,
        cause,
      },
    );
  }
  const result = contractSchema.safeParse(value);
  if (result.success) return value as Contract;
  const [issue] = result.error.issues;
  const field = issue?.path.reduce<string>(
    (at, key) =>
      typeof key === 'number' ? `${at}[${key}]` : at === '' ? String(key) : `${at}.${String(key)}`,
    '',
  );
  throw new LockstepError(
    'LS_CONTRACT_SCHEMA',
    `${file} does not fit the contract schema at ${field || 'its root'}: ${issue?.message}`,
    { mend: remake, field: field ?? '' },
  );
}

async function readPolicy(dir: string, contract: Contract): Promise<string> {
  const file = path.join(dir, contract.policy.file);
  const source = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new LockstepError('LS_CONTRACT_POLICY', `expected ${file}, got ${cause.code}`, {
      mend: remake,
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
        `expected tokenizer.json in ${dir}, got ${cause.code}`,
        {
          mend: remake,
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
  const compare = (field: string, expected: unknown, actual: unknown): void => {
    if (JSON.stringify(expected) === JSON.stringify(actual)) return;
    throw edited('ARCHITECTURE', field, expected, actual, 'config.json');
  };
  compare('architectures', [segmentedArchitecture(model.family)], model.config['architectures']);
  compare('vocab_size', contract.tokenizer.size, model.vocabulary);
  compare('num_hidden_layers', contract.heads.long.length, model.layers);
  contract.heads.long.forEach((heads, layer) => {
    const missing = heads.find((head) => head >= model.kvHeads);
    if (missing === undefined) return;
    throw edited(
      'ARCHITECTURE',
      `heads.long[${layer}]`,
      `KV heads below ${model.kvHeads}`,
      missing,
      contractFile,
    );
  });
  const beyond = contract.retrieval.layers.find((layer) => layer >= model.layers);
  if (beyond !== undefined) {
    throw edited(
      'ARCHITECTURE',
      'retrieval.layers',
      `layers below ${model.layers}`,
      beyond,
      contractFile,
    );
  }
}

/**
 * Plan the golden sequences here and compare: this runtime cuts as the one that made the contract, each
 * sequence alone and all of them in turns.
 */
function replayGolden(files: ContractFiles): void {
  const sequences = files.contract.golden.map(({ tokens }) => tokens);
  compareGolden(
    files,
    sequences.map((tokens) => plan(files, tokens)),
  );
  compareGolden(files, plansByDetours(files, sequences));
}

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

const remake =
  'Make the contract again from the config: lockstep attach MODEL --config F --out DIR';

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
    { mend: `The checkpoint was changed by hand or mixed up. ${remake}`, field },
  );
}
