// What a contract says of carry and retrieval (SEMANTICS 2 and 4).
import { z } from 'zod';
import { count, positive } from './schema-numbers.ts';

/** Queries that the recipe `blocks` looks back on at most: what a runtime keeps of a segment. */
export const largestWindow = 64;
/** The sizes of the recipe `blocks` (tokens) where a config does not say. */
export const blockDefaults = { block: 32, distance: 128, window: largestWindow } as const;

/** M = size, A = sinks (tokens). With `heads: 'all'` long heads carry too; absent means `local`. */
export const carrySchema = z.strictObject({
  size: count,
  sinks: count,
  heads: z.enum(['local', 'all']).optional(),
});

/** R = size (rows per KV head), L_long = layers (sorted, from 0). */
const common = { size: count, layers: z.array(count) };

/** Only `blocks` has sizes of its own, so contracts of the other recipes keep their bytes. */
export const retrievalSchema = z.discriminatedUnion('recipe', [
  z.strictObject({ ...common, recipe: z.enum(['anchors', 'topk']) }),
  z.strictObject({
    ...common,
    recipe: z.literal('blocks'),
    /** B: neighbouring rows that are taken together. */
    block: positive,
    /** Delta: the distance at which every key is scored. */
    distance: count,
    /** W: last queries of a segment that score. */
    window: positive.max(largestWindow),
  }),
]);

/** Why R does not go with a block size, or undefined where it does. */
export function blockProblem(size: number, block: number): string | undefined {
  if (size < block) return `expected at least one block (${block} rows)`;
  return size % block === 0 ? undefined : `expected a multiple of the block (${block} rows)`;
}
