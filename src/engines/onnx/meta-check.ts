// Whether a meta.json is of this contract and as it was exported (python/lockstep/export/meta.py).
import { type Contract, canonicalJson, sha256 } from '../../contract/index.ts';
import { rotationOf } from '../../contract/rotation.ts';
import type { Meta } from './meta-schema.ts';

/** transformers computes frequencies in float32. */
const tolerance = 1e-5;

/** SHA-256 of the canonical JSON of all but `seal`. */
export function sealOf({ seal: _seal, ...meta }: Meta): string {
  return sha256(canonicalJson(meta));
}

/** Name and both values of the first field that is not what the contract says, or null. */
export function otherModel(
  { model }: Pick<Meta, 'model'>,
  contract: Pick<Contract, 'model'>,
): [field: string, expected: unknown, actual: unknown] | null {
  const shape = contract.model;
  for (const [field, expected, actual] of [
    ['model.architecture', shape.family, model.architecture],
    ['model.layers', shape.layers, model.layers],
    ['model.vocabulary', shape.vocabulary, model.vocabulary],
    ['model.queryHeads', shape.queryHeads, model.queryHeads],
    ['model.kvHeads', shape.kvHeads, model.kvHeads],
    ['model.headDim', shape.headDim, model.headDim],
    ['model.invFreq.length', shape.headDim / 2, model.invFreq.length],
  ] as const) {
    if (expected !== actual) return [field, expected, actual];
  }
  const { inverseFrequencies, factor } = rotationOf(shape);
  const at = inverseFrequencies.findIndex((f, i) => !near(model.invFreq[i] as number, f));
  if (at >= 0) return [`model.invFreq[${at}]`, inverseFrequencies[at], model.invFreq[at]];
  if (near(model.attentionFactor, factor)) return null;
  return ['model.attentionFactor', factor, model.attentionFactor];
}

function near(actual: number, expected: number): boolean {
  return Math.abs(actual - expected) <= tolerance * Math.abs(expected);
}
