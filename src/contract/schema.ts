// The contract: everything that changes a number the model computes, as one JSON document.
import { z } from 'zod';

const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'expected 64 lowercase hexadecimal digits');
/** Integers that every runtime holds alike, in cells of 32 bits too. */
export const count = z
  .int()
  .min(0)
  .max(2 ** 31 - 1);
export const positive = z
  .int()
  .min(1)
  .max(2 ** 31 - 1);
const heads = z.array(count);

/** JSON without floating-point numbers: what parameters and tables are made of. */
export type Json =
  | number
  | string
  | boolean
  | null
  | readonly Json[]
  | { readonly [key: string]: Json };
const json: z.ZodType<Json> = z.lazy(() =>
  z.union([z.int(), z.string(), z.boolean(), z.null(), z.array(json), z.record(z.string(), json)]),
);

export const contractSchema = z
  .strictObject({
    /** Version of this schema. */
    lockstep: z.literal(1),
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
    /** M = size, A = sinks (tokens). */
    carry: z.strictObject({ size: count, sinks: count }),
    /** R = size (rows per KV head), recipe, L_long = layers (sorted, from 0). */
    retrieval: z.strictObject({
      size: count,
      recipe: z.enum(['anchors', 'topk']),
      layers: z.array(count),
    }),
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
    }),
    /** Replayed by every runtime before it trusts its policy engine. Boundaries are cut positions e_i. */
    golden: z
      .array(z.strictObject({ tokens: z.array(count), boundaries: z.array(positive) }))
      .min(1),
    /** K = truncation: how many boundaries the gradient crosses. Not part of the digest. */
    training: z.strictObject({ truncation: count }),
    /** null: never trained under this contract. Not part of the digest. */
    trained: z.strictObject({ steps: positive, tokens: positive }).nullable(),
    /** SHA-256 over the RFC 8785 form of all but `digest`, `training` and `trained`. */
    digest: sha256,
  })
  .meta({ title: 'Lockstep contract' });

/** The content of `lockstep.json`. */
export type Contract = z.infer<typeof contractSchema>;
export type Recipe = Contract['retrieval']['recipe'];
