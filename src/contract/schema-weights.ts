// `trained.weights` of a contract: whose weights a checkpoint holds.
import { z } from 'zod';
import { sha256Digits } from './schema-numbers.ts';

export const weightsSchema = z.strictObject({
  /** Of the RFC 8785 form of `files`. */
  sha256: sha256Digits,
  /** SHA-256 of every file's bytes, by its name in the folder. */
  files: z.record(z.string(), sha256Digits),
});

export type WeightsIdentity = z.infer<typeof weightsSchema>;
