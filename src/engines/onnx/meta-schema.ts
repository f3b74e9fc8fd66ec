// What `lockstep export` writes in meta.json, beside a graph.
import { z } from 'zod';

export const precisions = ['fp32', 'int8', 'int4'] as const;
export type Precision = (typeof precisions)[number];

const size = z.int().min(1);
const file = z.strictObject({ bytes: z.int().min(0), sha256: z.string() });
const loss = z.number().nullable();
export const metaSchema = z.strictObject({
  format: z.literal(3),
  precision: z.enum(precisions),
  digest: z.string(),
  files: z.strictObject({
    'step.onnx': file,
    'step.onnx.data': file,
    'products.onnx': file,
    /** With the recipe `blocks`. */
    'blocks.onnx': file.optional(),
  }),
  /** `trained.weights.sha256` of the checkpoint that it was exported from. */
  weights: z.string(),
  model: z.strictObject({
    architecture: z.string(),
    layers: size,
    vocabulary: size,
    queryHeads: size,
    kvHeads: size,
    headDim: size,
    invFreq: z.array(z.number()),
    attentionFactor: z.number(),
  }),
  quality: z.strictObject({ perplexity: loss, ratio: loss, forced: z.boolean() }),
  /** SHA-256 of the canonical JSON of all above. */
  seal: z.string(),
});

/** The content of `onnx/<precision>/meta.json`. */
export type Meta = z.infer<typeof metaSchema>;
