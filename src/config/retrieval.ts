// `carry` and `retrieval` of lockstep.config.ts.
import { z } from 'zod';
import { count, positive } from '../contract/schema-numbers.ts';
import { blockDefaults, blockProblem, largestWindow } from '../contract/schema-retrieval.ts';

/** Heads and layers: from 0, each once; kept in ascending order. */
export const indices = z
  .array(count)
  .refine((list) => new Set(list).size === list.length, 'expected each number once')
  .transform((list) => [...list].sort((a, b) => a - b));

export const carrySchema = z
  .strictObject({
    /** M: tokens before a boundary that heads carry into the next segment. */
    size: count,
    /** A: first tokens of the sequence that every segment sees. */
    sinks: count.default(4),
    /** Which heads carry: the local ones, or the long ones too. */
    heads: z.enum(['local', 'all']).optional(),
  })
  .superRefine(({ size, heads }, context) => {
    if (heads !== 'all' || size > 0) return;
    context.addIssue({
      code: 'custom',
      path: ['heads'],
      message: 'expected "local", as nothing is carried (size 0)',
      input: heads,
    });
  })
  // `local` is what a contract that does not say means.
  .transform(({ heads, ...carry }): { size: number; sinks: number; heads?: 'all' } =>
    heads === 'all' ? { ...carry, heads } : carry,
  );

const sizes = ['block', 'distance', 'window'] as const;

export const retrievalSchema = z
  .strictObject({
    /** R: rows retrieved for each long head at a boundary. */
    size: count,
    recipe: z.enum(['anchors', 'topk', 'blocks']).optional(),
    /** L_long: layers whose long heads retrieve. */
    layers: indices,
    /** B, for `blocks`: neighbouring rows that are taken together; R is a multiple of it. */
    block: positive.optional(),
    /** Delta, for `blocks`: the distance at which every key is scored. */
    distance: count.optional(),
    /** W, for `blocks`: last queries of a segment that score. */
    window: positive.max(largestWindow).optional(),
  })
  .superRefine((retrieval, context) => {
    const { size, recipe, layers } = retrieval;
    const issue = (path: string, message: string, input: unknown): void =>
      context.addIssue({ code: 'custom', path: [path], message, input });
    if (size > 0 && layers.length === 0) {
      issue('layers', `expected at least one layer, as size is ${size}`, layers);
    }
    if (size === 0 && layers.length > 0) {
      issue('size', 'expected at least 1, as layers are given', size);
    }
    if (size === 0 && recipe !== undefined) {
      issue('recipe', 'expected no recipe, as nothing is retrieved (size 0)', recipe);
    }
    if (recipe === 'blocks') {
      const problem = blockProblem(size, retrieval.block ?? blockDefaults.block);
      if (size > 0 && problem !== undefined) issue('size', problem, size);
      return;
    }
    for (const name of sizes) {
      if (retrieval[name] === undefined) continue;
      issue(name, 'expected none, as only the recipe "blocks" has it', retrieval[name]);
    }
  })
  .transform(({ size, recipe = 'anchors', layers, block, distance, window }) =>
    recipe === 'blocks'
      ? {
          size,
          recipe,
          layers,
          block: block ?? blockDefaults.block,
          distance: distance ?? blockDefaults.distance,
          window: window ?? blockDefaults.window,
        }
      : { size, recipe, layers },
  );
