// `model` of a contract: what of a checkpoint's config.json changes the numbers it computes.
import { z } from 'zod';
import { positive } from './schema-numbers.ts';

/** What JSON holds exactly in every runtime's way of writing it. */
const number = z
  .number()
  .gt(0)
  .max(2 ** 53);
const optional = number.nullable();

/** Rotations whose angles do not depend on the length (SEMANTICS.md 3). */
const ropeSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('default'), theta: number }),
  z.strictObject({ type: z.literal('linear'), theta: number, factor: number }),
  z.strictObject({
    type: z.literal('llama3'),
    theta: number,
    factor: number,
    /** Tokens of the context that the model was trained with first. */
    originalLength: number,
    lowFrequencyFactor: number,
    highFrequencyFactor: number,
  }),
  z.strictObject({
    type: z.literal('yarn'),
    theta: number,
    factor: number,
    originalLength: number,
    /** null: follows from factor and mscale. */
    attentionFactor: optional,
    mscale: optional,
    mscaleAllDim: optional,
    betaFast: number,
    betaSlow: number,
    truncate: z.boolean(),
  }),
]);

export const modelSchema = z.strictObject({
  /** transformers' name of the architecture. */
  family: z.enum(['llama', 'qwen2', 'qwen3', 'mistral']),
  hiddenSize: positive,
  intermediateSize: positive,
  layers: positive,
  queryHeads: positive,
  kvHeads: positive,
  headDim: positive,
  /** Rows of the embedding. */
  vocabulary: positive,
  rope: ropeSchema,
  /** Added to the mean square in RMSNorm. */
  normEpsilon: number,
  activation: z.string().min(1),
  /** Which projections of attention have a bias. */
  attentionBias: z.enum(['none', 'qkv', 'qkvo']),
  mlpBias: z.boolean(),
  /** Whether the output head is the embedding. */
  tied: z.boolean(),
});

export type ModelShape = z.infer<typeof modelSchema>;
export type Rope = z.infer<typeof ropeSchema>;
