// The contract: everything that changes a number the model computes, as one JSON document.
import { z } from 'zod';
import type { Json } from '../json.ts';
import { modelSchema } from './schema-model.ts';
import { count, positive, sha256Digits as sha256 } from './schema-numbers.ts';
import { carrySchema, retrievalSchema } from './schema-retrieval.ts';
import { weightsSchema } from './schema-weights.ts';

export { count, positive } from './schema-numbers.ts';

const heads = z.array(count);

export type { Json };
export const json: z.ZodType<Json> = z.lazy(() =>
  z.union([z.int(), z.string(), z.boolean(), z.null(), z.array(json), z.record(z.string(), json)]),
);

export const contractSchema = z
  .strictObject({
    /** Version of this schema. */
    lockstep: z.literal(2),
    policy: z.strictObject({
      name: z.string().min(1),
      /** File beside lockstep.json that holds the bundled policy. */
      file: z.literal('policy.js'),
      sha256,
      params: z.record(z.string(), json),
      /** The frozen policy runtime that runs policy.js: version, and SHA-256 of its bytes. */
      runtime: z.strictObject({ version: positive, sha256 }),
    }),
    /** What `prepare(vocabulary)` returned when the contract was made. */
    tables: json,
    /** S = max (tokens). Every closed segment has min <= length <= max; cuts fall on multiples of align. */
    segment: z.strictObject({ min: positive, max: positive, align: positive }),
    carry: carrySchema,
    retrieval: retrievalSchema,
    /** H_long: for every layer the sorted list of its long KV heads. All other heads are local. */
    heads: z.strictObject({ long: z.array(heads) }),
    /** Limit of the retrieval pool in tokens; null keeps every token. */
    pool: z.strictObject({ capacity: z.null() }),
    tokenizer: z.strictObject({
      /** SHA-256 of the bytes of tokenizer.json. */
      sha256,
      /** Number of token ids the model knows (rows of its embedding). */
      size: positive,
      /** Beginning-of-sequence id put at position 0, or null where none is added. */
      bos: count.nullable(),
      /** Ids that end an answer, ascending, each once. Every engine stops at these and at no other. */
      ends: z.array(count),
    }),
    /** What of config.json changes the model's numbers, in one form. */
    model: modelSchema,
    /** Replayed by every runtime before it trusts its policy engine. Boundaries are cut positions e_i. */
    golden: z
      .array(z.strictObject({ tokens: z.array(count), boundaries: z.array(positive) }))
      .min(1),
    /** K = truncation: how many boundaries the gradient crosses. Not part of the digest. */
    training: z.strictObject({ truncation: count }),
    /** Seen in training under this contract; 0 steps: attached, never trained. Not part of the digest. */
    trained: z.strictObject({ steps: count, tokens: count, weights: weightsSchema }),
    /** SHA-256 over the RFC 8785 form of all but `digest`, `training` and `trained`. */
    digest: sha256,
  })
  .meta({ title: 'Lockstep contract' });

/** The content of `lockstep.json`. */
export type Contract = z.infer<typeof contractSchema>;
export type Recipe = Contract['retrieval']['recipe'];
