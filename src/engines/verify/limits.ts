// How far an engine may be from the trainer, by what it computes in.
import { roundedLimits as rounded } from '../rounded.ts';

export interface Limits {
  /**
   * What `tolerance` limits: the largest |dlogp| or, for rounded models, their mean (rounded.ts).
   */
  kind: 'largest' | 'mean';
  /** |dlogp| in nats of the observed token and of the trainer's best. */
  tolerance: number;
  /**
   * A retrieval mismatch passes where the trainer's deciding gap is at most this share of the
   * largest |q| |k| that was compared. A hidden state off by a share e moves a score by up to
   * 2 e |q| |k|; float32 leaves e near 1e-4 at the very worst after tens of layers. Infinity: any
   * passes (int4 moves scores further than any near-tie).
   */
  gap: number;
}

const table: Readonly<Record<string, Limits>> = {
  'torch float32': { kind: 'largest', tolerance: 1e-3, gap: 2e-4 },
  'torch float64': { kind: 'largest', tolerance: 1e-3, gap: 2e-4 },
  'onnx fp32': { kind: 'largest', tolerance: 5e-3, gap: 2e-4 },
  'vllm float32': { kind: 'largest', tolerance: 5e-3, gap: 2e-4 },
  'torch bfloat16': { kind: 'mean', tolerance: rounded['torch bfloat16'], gap: 5e-2 },
  'onnx int8': { kind: 'mean', tolerance: rounded['onnx int8'], gap: 2e-2 },
  'onnx int4': {
    kind: 'mean',
    tolerance: rounded['onnx int4'],
    gap: Number.POSITIVE_INFINITY,
  },
};

/** The stated limits of an engine and precision; those of float32 for one that is not listed. */
export function limitsOf(engine: string, precision: string): Limits {
  return table[`${engine} ${precision}`] ?? { kind: 'largest', tolerance: 5e-3, gap: 2e-4 };
}

/** Trainer's two best tokens closer than this (nats): either may come first. */
export const greedyMargin = 1e-2;

/**
 * The margin at which a greedy mismatch fails: where every logp is within `tolerance`, two tokens
 * further apart than twice that cannot change places. At float32's 5e-3 that is `greedyMargin`. Where the mean
 * is limited, none fails.
 */
export function failingMargin({ kind, tolerance }: Limits): number {
  return kind === 'mean' ? Number.POSITIVE_INFINITY : Math.max(greedyMargin, 2 * tolerance);
}
