// A checkpoint of the version before, renewed: the same segments, checked, under this version's digest.
import { mkdir, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { difference } from '../contract/difference.ts';
import { canonicalJson, digestOf, sha256, sha256File } from '../contract/digest.ts';
import { contractFile, contractVersion, readAnyDocument } from '../contract/document.ts';
import { readModel, segmentedArchitecture } from '../contract/model.ts';
import type { ContractV1 } from '../contract/schema-v1.ts';
import { neverTrained } from '../contract/trained.ts';
import { LockstepError } from '../errors.ts';
import { plan } from '../planner/index.ts';
import type { Policy } from '../policies/policy.ts';
import { rebuild } from '../policies/rebuild.ts';
import { readIfThere } from '../read-if-there.ts';
import { shellWord } from '../shell-word.ts';
import { buildAtomically } from './atomic-folder.ts';
import { checkTarget, exchange, linkFile, refuseInside } from './attach.ts';
import { type ContractFiles, makeContract } from './make.ts';
import { probeFile, writeContract } from './write.ts';

export interface UpgradeOptions {
  /** Folder of the checkpoint. */
  dir: string;
  /** Folder to make; by default the checkpoint is renewed where it lies. */
  out?: string;
  /** The policy, where it is none of Lockstep's own. */
  policy?: Policy;
}

export interface Upgraded {
  files: ContractFiles;
  /** Digest of before. */
  before: string;
  /** Stored sequences that the new contract cuts at the same places. */
  checked: number;
  /** Graphs of `lockstep export` that were left out: they were made under the digest of before. */
  exports: string[];
}

/** Settings and sums of a training, and the card, which name the digest or the files. */
const sums = path.join('training', 'SHA256SUMS');
const naming = [path.join('training', 'state.json'), 'README.md'];

/**
 * Renew a checkpoint's contract: its policy is made again, and has to have the same tables and to cut
 * the stored golden sequences at the same places; steps, tokens and truncation of its training stay.
 * The new folder is built beside its place and renamed.
 *
 * @throws LS_UPGRADE_CURRENT where it is of this version; LS_UPGRADE_POLICY where the policy has to
 *   be given, or is another one; LS_UPGRADE_DIFFERS where segments would change; LS_CONTRACT_* where
 *   the checkpoint is not what its old contract says; LS_ATTACH_*, LS_MODEL_*, LS_TOKENIZER_*
 */
export async function upgrade(options: UpgradeOptions): Promise<Upgraded> {
  const dir = await realpath(options.dir).catch(() => path.resolve(options.dir));
  const old = await readAnyDocument(dir);
  if (old.lockstep === contractVersion) {
    throw new LockstepError(
      'LS_UPGRADE_CURRENT',
      `expected a contract of version 1, got ${contractVersion} (${path.join(dir, contractFile)})`,
      { fix: 'The contract is current. Use the checkpoint as it is.', field: 'lockstep' },
    );
  }
  const out = options.out === undefined ? dir : path.resolve(options.out);
  if (out !== dir) {
    await checkTarget(dir, out);
    await refuseInside(dir, out);
  }
  await checkOld(dir, old);
  const policy = options.policy ?? rebuild(old.policy);
  const config = { ...settingsOf(old), policy: samePolicy(policy, old, dir) };
  const made = await makeContract({ config, modelDir: dir });
  checkSame(made, old);
  const contract = { ...made.contract, trained: { ...neverTrained, ...old.trained } };
  const files = { ...made, contract };
  const { exports, written } = await write(dir, out, files, old.digest);
  return { files: written, before: old.digest, checked: old.golden.length, exports };
}

/** The checkpoint is what its contract says, as far as that says it. */
async function checkOld(dir: string, old: ContractV1): Promise<void> {
  const model = await readModel(dir);
  const hash = (name: string): Promise<string> =>
    sha256File(path.join(dir, name)).catch(() => 'no file');
  for (const [kind, field, expected, actual] of [
    ['DIGEST', 'digest', digestOf(old as never), old.digest],
    ['POLICY', 'policy.sha256', old.policy.sha256, await hash('policy.js')],
    ['TOKENIZER', 'tokenizer.sha256', old.tokenizer.sha256, await hash('tokenizer.json')],
    [
      'ARCHITECTURE',
      'architectures',
      JSON.stringify([segmentedArchitecture(model.family)]),
      JSON.stringify(model.config['architectures']),
    ],
    ['ARCHITECTURE', 'vocab_size', old.tokenizer.size, model.vocabulary],
    ['ARCHITECTURE', 'num_hidden_layers', old.heads.long.length, model.layers],
  ] as const) {
    if (expected === actual) continue;
    throw new LockstepError(
      `LS_CONTRACT_${kind}`,
      `expected ${field} to be ${expected}, got ${actual}`,
      {
        fix: 'The checkpoint was changed after its contract was made: use an unchanged copy.',
        field,
      },
    );
  }
}

function settingsOf(old: ContractV1) {
  const { segment, carry, retrieval, heads, tokenizer, training } = old;
  return { segment, carry, retrieval, heads, bos: tokenizer.bos !== null, training };
}

/** @throws LS_UPGRADE_POLICY */
function samePolicy(policy: Policy | null, old: ContractV1, dir: string): Policy {
  const { name, params } = old.policy;
  if (policy === null) {
    throw new LockstepError(
      'LS_UPGRADE_POLICY',
      `expected a policy of Lockstep's own, got ${name}`,
      {
        fix: `Name the config that it was made from: lockstep attach --upgrade ${shellWord(dir)} --config lockstep.config.ts`,
        field: 'policy',
      },
    );
  }
  const other = difference('policy', { name, params }, named(policy));
  if (other === null) return policy;
  const [field, expected, actual] = other;
  throw new LockstepError(
    'LS_UPGRADE_POLICY',
    `expected ${field} to be ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`,
    { fix: 'Give the policy, with the parameters, that the checkpoint was made with.', field },
  );
}

/** As JSON has it, so that frozen and given parameters compare. */
function named({ name, params }: Policy): object {
  return JSON.parse(JSON.stringify({ name, params }));
}

/** @throws LS_UPGRADE_DIFFERS where the new contract is not the old one in other words */
function checkSame(made: ContractFiles, old: ContractV1): void {
  const { contract } = made;
  const differs = (field: string, expected: unknown, actual: unknown): LockstepError =>
    new LockstepError(
      'LS_UPGRADE_DIFFERS',
      `expected ${field} to stay ${expected}, got ${actual}`,
      {
        fix: 'This version of Lockstep would segment its texts differently. Serve it with the version that made it, or attach and train again.',
        field,
      },
    );
  if (contract.tokenizer.bos !== old.tokenizer.bos) {
    throw differs('tokenizer.bos', old.tokenizer.bos, contract.tokenizer.bos);
  }
  if (canonicalJson(contract.tables) !== canonicalJson(old.tables)) {
    throw differs('tables', sha256(canonicalJson(old.tables)), 'other tables');
  }
  for (const [at, { tokens, boundaries }] of old.golden.entries()) {
    const other = difference(`golden[${at}].boundaries`, boundaries, plan(made, tokens));
    if (other !== null) throw differs(...other);
  }
}

/** @returns the exports left out, and the contract with the weights that it lies on */
async function write(
  dir: string,
  out: string,
  files: ContractFiles,
  before: string,
): Promise<{ exports: string[]; written: ContractFiles }> {
  return await buildAtomically(out, 'LS_ATTACH_WRITE', async (building) => {
    const exports: string[] = [];
    for (const name of await filesBelow(dir)) {
      if (name === probeFile) continue; // it names the digest of before
      if (name.startsWith(`onnx${path.sep}`)) {
        if (path.basename(name) === 'meta.json') exports.push(path.dirname(name));
        continue;
      }
      const [from, to] = [path.join(dir, name), path.join(building, name)];
      await mkdir(path.dirname(to), { recursive: true });
      if (naming.includes(name)) {
        const text = await readFile(from, 'utf8');
        await writeFile(to, text.replaceAll(before, files.contract.digest));
      } else await linkFile(from, to);
    }
    const written = await writeContract(building, files);
    await sumAgain(building);
    await exchange(building, out, out === dir);
    return { exports: exports.sort(), written };
  });
}

/** Paths of all files below a folder, relative to it. */
async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.relative(dir, path.join(entry.parentPath, entry.name)))
    .sort();
}

/** The checksums of a training's checkpoint, of what was written again, if it has them. */
async function sumAgain(dir: string): Promise<void> {
  const file = path.join(dir, sums);
  const text = await readIfThere(file);
  if (text === null) return;
  const written = ['config.json', contractFile, 'policy.js', ...naming];
  const lines: string[] = [];
  for (const line of text.split('\n').filter((one) => one !== '')) {
    const name = line.slice(66);
    const fresh = written.includes(path.normalize(name));
    lines.push(fresh ? `${await sha256File(path.join(dir, name))}  ${name}` : line);
  }
  await rm(file);
  await writeFile(file, `${lines.join('\n')}\n`);
}
