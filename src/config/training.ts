// Settings of `lockstep train`: what a config's `training` may say. None of it is in the digest.
import { z } from 'zod';

const fraction = z.number().min(0).max(1);

/** Patterns of parameter names. */
const patterns = z.array(z.string().min(1)).min(1);

export const trainingSchema = z
  .strictObject({
    /** Tokens of held-out text scored, from the start of each file. */
    heldOutTokens: z.int().min(2).default(2048),
    /** K: how many boundaries the gradient crosses. */
    truncation: z.int().min(0).default(1),
    /** Tokens in one training sequence. */
    sequence: z.int().min(2).default(2048),
    /** Sequences an optimizer step. */
    batch: z.int().min(1).default(1),
    /** Peak learning rate of AdamW. */
    learningRate: z.number().positive().default(1e-4),
    /** Share of the budget spent warming up. */
    warmup: fraction.default(0.05),
    /** Learning rate at the end of the cosine, as a share of the peak. */
    finalRate: fraction.default(0.1),
    weightDecay: z.number().min(0).default(0),
    /** Largest norm of the gradient; 0 clips nothing. */
    clip: z.number().min(0).default(1),
    /** Parameters to train: `all`, `attention` (projections and norms), or patterns of names. */
    trainable: z.union([z.enum(['all', 'attention']), patterns]).default('all'),
    /** Arithmetic of the matrix products; weights, gradients and attention stay float32. */
    precision: z.enum(['float32', 'bfloat16']).default('float32'),
    /** Decides which sequences are drawn, and in which order. */
    seed: z
      .int()
      .min(0)
      .max(2 ** 31 - 1)
      .default(0),
    /** Budget in optimizer steps. Exactly one of `steps` and `minutes`. */
    steps: z.int().min(1).optional(),
    /** Budget in minutes of training (loading, scoring and saving not counted). */
    minutes: z.number().positive().optional(),
    /** Minutes between checkpoints, 10 unless `saveEvery` is given; one is written at the end. */
    saveMinutes: z.number().positive().optional(),
    /** Steps between checkpoints. */
    saveEvery: z.int().min(1).optional(),
    /** How many checkpoints there are, the newest (`out`) among them; on --resume as before. */
    keep: z.int().min(1).optional(),
  })
  .refine((value) => (value.steps === undefined) !== (value.minutes === undefined), {
    message: 'expected exactly one of `steps` and `minutes`',
    path: ['steps'],
  })
  .refine((value) => value.saveEvery === undefined || value.saveMinutes === undefined, {
    message: 'expected at most one of `saveEvery` and `saveMinutes`',
    path: ['saveEvery'],
  });

/** Settings of a training with every default filled in, and the texts that the config's `data` names. */
export type TrainingSettings = z.infer<typeof trainingSchema> & {
  /** Paths or globs of the texts to train on (`data.train`). */
  data: string[];
  /** Paths or globs of texts never trained on (`data.validation`). */
  heldOut?: string[];
};
/** The `training` part of a config as a user writes it. */
export type TrainingInput = z.input<typeof trainingSchema>;
