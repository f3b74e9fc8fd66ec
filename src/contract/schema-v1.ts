// Version 1 of the contract, of before `model` and `tokenizer.ends`: recognised, checked, and refused.
// It is written out, so that what later versions add or change does not reach it.
import { z } from 'zod';
import { json } from './schema.ts';
import { count, positive, sha256Digits as sha256 } from './schema-numbers.ts';

export const contractV1Schema = z
  .strictObject({
    lockstep: z.literal(1),
    policy: z.strictObject({
      name: z.string().min(1),
      file: z.literal('policy.js'),
      sha256,
      params: z.record(z.string(), json),
    }),
    tables: json,
    segment: z.strictObject({ min: positive, max: positive, align: positive }),
    carry: z.strictObject({ size: count, sinks: count }),
    retrieval: z.strictObject({
      size: count,
      recipe: z.enum(['anchors', 'topk']),
      layers: z.array(count),
    }),
    heads: z.strictObject({ long: z.array(z.array(count)) }),
    pool: z.strictObject({ capacity: z.null() }),
    tokenizer: z.strictObject({ sha256, size: positive, bos: count.nullable() }),
    golden: z
      .array(z.strictObject({ tokens: z.array(count), boundaries: z.array(positive) }))
      .min(1),
    training: z.strictObject({ truncation: count }),
    /** null: never trained. */
    trained: z.strictObject({ steps: positive, tokens: positive }).nullable(),
    digest: sha256,
  })
  .meta({ title: 'Lockstep contract, version 1' });

export type ContractV1 = z.infer<typeof contractV1Schema>;
