// Reads lockstep.json of any version and checks it against that version's schema.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { z } from 'zod';
import { LockstepError } from '../errors.ts';
import { jsonText } from '../json-text.ts';
import { shellWord } from '../shell-word.ts';
import { systemProblem } from '../system-error.ts';
import { type Contract, contractSchema } from './schema.ts';
import { type ContractV1, contractV1Schema } from './schema-v1.ts';

/** The contract's file in a checkpoint. */
export const contractFile = 'lockstep.json';

/** The version that this Lockstep reads and writes. */
export const contractVersion = 2;

export const remake =
  'Make the contract again from the config: lockstep attach MODEL --config F --out DIR';

/**
 * The contract in a folder, fitting its schema; nothing else of it is checked.
 *
 * @throws LS_CONTRACT_MISSING, LS_CONTRACT_SCHEMA; LS_CONTRACT_VERSION for the version before (which
 *   has to fit its own schema) and for those to come
 */
export async function readDocument(dir: string): Promise<Contract> {
  const document = await readAnyDocument(dir);
  if (document.lockstep === contractVersion) return document;
  throw new LockstepError(
    'LS_CONTRACT_VERSION',
    `expected version ${contractVersion} of the contract, got 1 (${path.join(dir, contractFile)})`,
    {
      fix: `An earlier version of Lockstep made it. Run lockstep attach --upgrade ${shellWord(dir)}`,
      field: 'lockstep',
    },
  );
}

/**
 * A contract of this version or of the one before, fitting its schema.
 *
 * @throws LS_CONTRACT_MISSING, LS_CONTRACT_SCHEMA; LS_CONTRACT_VERSION for versions to come
 */
export async function readAnyDocument(dir: string): Promise<Contract | ContractV1> {
  const file = path.join(dir, contractFile);
  const value = await readJson(file);
  const version = (value as { lockstep?: unknown } | null)?.lockstep;
  if (version === 1) return fitting(contractV1Schema, value, file) as ContractV1;
  if (typeof version === 'number' && Number.isInteger(version) && version > contractVersion) {
    throw new LockstepError(
      'LS_CONTRACT_VERSION',
      `expected version ${contractVersion} of the contract, got ${version} (${file})`,
      { fix: 'A later version of Lockstep made it. Update Lockstep.', field: 'lockstep' },
    );
  }
  return fitting(contractSchema, value, file) as Contract;
}

/** A folder without a contract needs one; a folder that does not exist has another name. */
function missing(dir: string, cause: NodeJS.ErrnoException): LockstepError {
  if (cause.code === 'ENOENT' && !existsSync(dir)) {
    return new LockstepError(
      'LS_CONTRACT_MISSING',
      `expected the folder of a checkpoint, got no such folder: ${dir}`,
      { fix: 'Name a folder that lockstep attach or lockstep train made.', cause },
    );
  }
  return new LockstepError(
    'LS_CONTRACT_MISSING',
    `expected a contract (lockstep.json) in ${dir}, got ${cause.code === 'ENOENT' ? 'none' : systemProblem(cause)}`,
    {
      fix: 'Put a contract on the checkpoint: lockstep attach MODEL --config lockstep.config.ts --out DIR',
      cause,
    },
  );
}

async function readJson(file: string): Promise<unknown> {
  const data = await readFile(file).catch((cause: NodeJS.ErrnoException) => {
    throw missing(path.dirname(file), cause);
  });
  try {
    return JSON.parse(jsonText(data));
  } catch (cause) {
    throw new LockstepError(
      'LS_CONTRACT_SCHEMA',
      `expected JSON in ${file}, got: ${(cause as Error).message}`,
      { fix: remake, cause },
    );
  }
}

function fitting(schema: z.ZodType, value: unknown, file: string): unknown {
  const result = schema.safeParse(value);
  if (result.success) return value;
  const [issue] = result.error.issues;
  const field = issue?.path.reduce<string>(
    (at, key) =>
      typeof key === 'number' ? `${at}[${key}]` : at === '' ? String(key) : `${at}.${String(key)}`,
    '',
  );
  throw new LockstepError(
    'LS_CONTRACT_SCHEMA',
    `${file} does not fit the contract schema at ${field || 'its root'}: ${issue?.message}`,
    { fix: remake, field: field ?? '' },
  );
}
