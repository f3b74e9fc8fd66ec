// What `lockstep export` wrote beside a graph, and the checks before it is believed.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Contract } from '../../contract/index.ts';
import { LockstepError } from '../../errors.ts';
import { checkInside } from '../../inside.ts';
import { parseJson } from '../../json.ts';
import { shellWord } from '../../shell-word.ts';
import { systemProblem } from '../../system-error.ts';
import { checkGraphFile } from './graph-file.ts';
import { otherModel, sealOf } from './meta-check.ts';
import { type Meta, metaSchema, type Precision } from './meta-schema.ts';

/** Folder of one precision's graph. */
export function graphFolder(dir: string, precision: Precision): string {
  return path.join(dir, 'onnx', precision);
}

/**
 * Read and check an exported graph: that meta.json is the contract's and as it was written, size and
 * SHA-256 of its files, and whose weights it was made of.
 *
 * @throws LS_ENGINE_EXPORT when there is none; LS_ENGINE_DIGEST; LS_ENGINE_CORRUPT; LS_ENGINE_STALE;
 *   LS_ENGINE_GRAPH, LS_CHECKPOINT_LINK for what would read other files than the exported ones
 */
export async function readGraph(
  dir: string,
  precision: Precision,
  contract: Contract,
): Promise<Meta> {
  const folder = graphFolder(dir, precision);
  const fix = `Export it again: lockstep export ${shellWord(dir)} --precision ${precision}`;
  const meta = await readMeta(path.join(folder, 'meta.json'), precision, fix);
  if (meta.digest !== contract.digest) {
    throw new LockstepError(
      'LS_ENGINE_DIGEST',
      `expected a graph exported under the contract ${contract.digest}, got ${meta.digest}`,
      { fix, field: 'digest' },
    );
  }
  const other = otherModel(meta, contract);
  if (other !== null) {
    const [field, expected, actual] = other;
    throw corrupt(folder, `${field} ${expected}`, String(actual), fix, field);
  }
  if (meta.seal !== sealOf(meta)) {
    throw corrupt(folder, 'what was exported', 'other content', fix, 'seal');
  }
  for (const [name, file] of Object.entries(meta.files)) {
    if (file === undefined) continue;
    await checkInside(dir, path.join(folder, name));
    const found = await digestFile(path.join(folder, name)).catch(() => null);
    if (found?.bytes === file.bytes && found.sha256 === file.sha256) continue;
    throw new LockstepError(
      'LS_ENGINE_CORRUPT',
      `expected ${path.join(folder, name)} as it was exported (${file.bytes} bytes), got ${found === null ? 'no such file' : `other content (${found.bytes} bytes)`}`,
      { fix },
    );
  }
  await checkGraphFile(path.join(folder, 'step.onnx'), new Set(['step.onnx.data']));
  for (const name of ['products.onnx', 'blocks.onnx'] as const) {
    if (meta.files[name] !== undefined) await checkGraphFile(path.join(folder, name), new Set());
  }
  // Compared with the contract, not with files: a folder may hold the graph alone, without weights.
  const weights = contract.trained.weights.sha256;
  if (meta.weights !== weights) {
    throw new LockstepError(
      'LS_ENGINE_STALE',
      `expected a graph of the weights ${weights}, as lockstep.json records them, got one of ${meta.weights}`,
      { fix, field: 'weights' },
    );
  }
  return meta;
}

function corrupt(
  folder: string,
  expected: string,
  got: string,
  fix: string,
  field: string,
): LockstepError {
  const file = path.join(folder, 'meta.json');
  return new LockstepError('LS_ENGINE_CORRUPT', `expected ${expected} in ${file}, got ${got}`, {
    fix,
    field,
  });
}

async function readMeta(file: string, precision: Precision, fix: string): Promise<Meta> {
  const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    throw new LockstepError(
      'LS_ENGINE_EXPORT',
      `expected an exported ${precision} graph, got ${systemProblem(cause)}: ${file}`,
      { fix: fix.replace('Export it again', 'Export it first'), cause },
    );
  });
  const result = metaSchema.safeParse(parseJson(text) ?? null);
  if (result.success && result.data.precision === precision) return result.data;
  const issue = result.error?.issues[0];
  throw new LockstepError(
    'LS_ENGINE_CORRUPT',
    `expected ${file} as it was exported, got other content${issue ? ` (${issue.path.join('.')}: ${issue.message})` : ''}`,
    { fix },
  );
}

async function digestFile(file: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) {
    hash.update(chunk as Buffer);
    bytes += (chunk as Buffer).length;
  }
  return { bytes, sha256: hash.digest('hex') };
}
