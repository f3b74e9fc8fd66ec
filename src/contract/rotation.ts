// The rotation that a contract's `model` says, from transformers' formulas, in float64.
import type { ModelShape, Rope } from './schema-model.ts';

export interface RotationShape {
  /** [D / 2] */
  inverseFrequencies: number[];
  /** Multiplies cos and sin. */
  factor: number;
}

/** transformers rounds to float32 on the way, so its frequencies are these to some 1e-6 (relative). */
export function rotationOf({ rope, headDim }: ModelShape): RotationShape {
  const plain = Array.from({ length: headDim / 2 }, (_, i) => rope.theta ** ((-2 * i) / headDim));
  switch (rope.type) {
    case 'default':
      return { inverseFrequencies: plain, factor: 1 };
    case 'linear':
      return { inverseFrequencies: plain.map((f) => f / rope.factor), factor: 1 };
    case 'llama3':
      return { inverseFrequencies: plain.map((f) => llama3(f, rope)), factor: 1 };
    case 'yarn':
      return { inverseFrequencies: yarn(plain, rope, headDim), factor: attentionFactor(rope) };
  }
}

type Llama3 = Extract<Rope, { type: 'llama3' }>;
type Yarn = Extract<Rope, { type: 'yarn' }>;

function llama3(frequency: number, rope: Llama3): number {
  const { factor, originalLength, lowFrequencyFactor: low, highFrequencyFactor: high } = rope;
  const wave = (2 * Math.PI) / frequency;
  if (wave < originalLength / high) return frequency;
  if (wave > originalLength / low) return frequency / factor;
  const smooth = (originalLength / wave - low) / (high - low);
  return ((1 - smooth) * frequency) / factor + smooth * frequency;
}

function yarn(plain: readonly number[], rope: Yarn, headDim: number): number[] {
  const turns = (count: number): number =>
    (headDim * Math.log(rope.originalLength / (count * 2 * Math.PI))) / (2 * Math.log(rope.theta));
  const [first, last] = [turns(rope.betaFast), turns(rope.betaSlow)];
  const low = Math.max(rope.truncate ? Math.floor(first) : first, 0);
  const end = Math.min(rope.truncate ? Math.ceil(last) : last, headDim - 1);
  const high = low === end ? end + 0.001 : end;
  return plain.map((frequency, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / (high - low)));
    return (frequency / rope.factor) * ramp + frequency * (1 - ramp);
  });
}

function attentionFactor({ factor, attentionFactor: given, mscale, mscaleAllDim }: Yarn): number {
  if (given !== null) return given;
  const scale = (by: number): number => (factor <= 1 ? 1 : 0.1 * by * Math.log(factor) + 1);
  return mscale === null || mscaleAllDim === null ? scale(1) : scale(mscale) / scale(mscaleAllDim);
}
