// A contract into a checkpoint folder, each file whole or not at all.
import { randomUUID } from 'node:crypto';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { contractFile } from '../contract/document.ts';
import { formatContract } from '../contract/format.ts';
import { readModel, segmentedArchitecture } from '../contract/model.ts';
import { segmentedType } from '../contract/model-type.ts';
import { identify, readWeights } from '../weights/read.ts';
import type { ContractFiles } from './make.ts';

/** What the trainer's forward says of a short sequence; it belongs to one contract and its weights. */
export const probeFile = 'probe.json';

/**
 * Write lockstep.json and policy.js, record whose weights lie there, and set architecture and
 * model_type in config.json. config.json comes last: a checkpoint that asks for segmented execution
 * always has its contract.
 *
 * @param dir folder of a checkpoint (with a config.json)
 * @returns what was written
 * @throws LS_MODEL_*
 */
export async function writeContract(dir: string, made: ContractFiles): Promise<ContractFiles> {
  const model = await readModel(dir);
  const weights = await identify(await readWeights(dir));
  const trained = { ...made.contract.trained, weights };
  const files = { ...made, contract: { ...made.contract, trained } };
  await writeContractFiles(dir, files);
  const file = path.join(dir, 'config.json');
  const config = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
  const architectures = [segmentedArchitecture(model.family)];
  const model_type = segmentedType(config['model_type']);
  await replaceFile(file, `${JSON.stringify({ ...config, architectures, model_type }, null, 2)}\n`);
  return files;
}

/** Write lockstep.json and policy.js into any folder. */
export async function writeContractFiles(dir: string, files: ContractFiles): Promise<void> {
  await replaceFile(path.join(dir, files.contract.policy.file), files.policySource);
  await replaceFile(path.join(dir, contractFile), formatContract(files.contract));
}

/** Write beside the file and rename over it. A hard-linked file is replaced, not written through. */
export async function replaceFile(file: string, text: string): Promise<void> {
  const temporary = `${file}.${randomUUID().slice(0, 8)}.tmp`;
  try {
    await writeFile(temporary, text);
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
