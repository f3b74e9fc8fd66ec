// Settings of `lockstep train`: what a config's `training` may say. None of it is in the digest.
import { z } from 'zod';
import { longestMinutes } from '../longest-times.ts';

const fraction = z.number().min(0).max(1);

/** Patterns of parameter names. */
const patterns = z.array(z.string().min(1)).min(1);

const minutes = z.number().positive().max(longestMinutes);

export const trainingSchema = z
  .strictObject({
    /** Tokens of held-out text scored, from the start of each file. */
    heldOutTokens: z.int().min(2).default(2048),
    /** K: how many boundaries the gradient crosses. */
    truncation: z.int().min(0).default(1),
    /** Tokens in one training sequence. */
    sequence: z.int().min(2).default(2048),
    /** Sequences that run together. */
    batch: z.int().min(1).default(1),
    /** How often as many are run before the weights change: a step has batch x accumulate. */
    accumulate: z.int().min(1).default(1),
    /** Peak learning rate of AdamW. */
    learningRate: z.number().positive().default(1e-4),
    /** How the rate falls after the warm-up, to `finalRate`; `constant` stays at the peak. */
    schedule: z.enum(['cosine', 'linear', 'constant']).default('cosine'),
    /** Share of the budget spent warming up. */
    warmup: fraction.default(0.05),
    /** Learning rate at the end, as a share of the peak (default 0.1). */
    finalRate: fraction.optional(),
    weightDecay: z.number().min(0).default(0),
    /** Largest norm of the gradient; 0 clips nothing. */
    clip: z.number().min(0).default(1),
    /**
     * Parameters to train: `all` (default), `attention` (projections and norms), or patterns of
     * names. With `lora`: patterns of what is trained beside the adapters, none by default.
     */
    trainable: z.union([z.enum(['all', 'attention']), patterns]).optional(),
    /** Train low-rank adapters of these projections; checkpoints hold them merged. */
    lora: z
      .strictObject({
        rank: z.int().min(1).default(16),
        /** Adapters are scaled by alpha / rank. */
        alpha: z.number().positive().default(32),
        /** Names of projections, or patterns of their full names. */
        modules: patterns.default(['q_proj', 'k_proj', 'v_proj', 'o_proj']),
      })
      .optional(),
    /** Train on preferences (DPO): rows have two answers, of which one is better. */
    dpo: z
      .strictObject({
        /** How strongly the model is held to the one that the training starts from. */
        beta: z.number().positive().default(0.1),
        /** The log-probability of an answer is a mean over its tokens instead of a sum. */
        lengthNormalized: z.boolean().default(false),
      })
      .optional(),
    /** Arithmetic of the matrix products; weights, gradients and attention stay float32. */
    precision: z.enum(['float32', 'bfloat16']).default('float32'),
    /** Compute a segment's activations again in the backward pass: less memory, more time. */
    recompute: z.boolean().default(false),
    /** Decides which sequences are drawn, and in which order. */
    seed: z
      .int()
      .min(0)
      .max(2 ** 31 - 1)
      .default(0),
    /** Budget in optimizer steps. Exactly one of `steps` and `minutes`. */
    steps: z.int().min(1).optional(),
    /** Budget in minutes of training (loading, scoring and saving not counted). */
    minutes: minutes.optional(),
    /** Minutes between checkpoints, 10 unless `saveEvery` is given; one is written at the end. */
    saveMinutes: minutes.optional(),
    /** Steps between checkpoints. */
    saveEvery: z.int().min(1).optional(),
    /** How many checkpoints there are, the newest (`out`) among them; on --resume as before. */
    keep: z.int().min(1).optional(),
    /** Steps between scorings of the held-out text, each both segmented and with full attention. */
    validateEvery: z.int().min(1).optional(),
    /** A loss so many nats per token above the usual is a spike; 0 looks for none. */
    spike: z.number().min(0).default(2),
    /** So many spikes in a row end the training. */
    patience: z.int().min(1).default(16),
  })
  .refine((value) => (value.steps === undefined) !== (value.minutes === undefined), {
    message: 'expected exactly one of `steps` and `minutes`',
    path: ['steps'],
  })
  .refine((value) => value.saveEvery === undefined || value.saveMinutes === undefined, {
    message: 'expected at most one of `saveEvery` and `saveMinutes`',
    path: ['saveEvery'],
  })
  .refine((value) => value.lora === undefined || typeof value.trainable !== 'string', {
    message: 'expected patterns of names, or nothing, as `lora` is given',
    path: ['trainable'],
  })
  .refine((value) => value.schedule !== 'constant' || value.finalRate === undefined, {
    message: 'expected none, as the rate stays at its peak (schedule `constant`)',
    path: ['finalRate'],
  })
  .transform((value) => ({
    ...value,
    finalRate: value.finalRate ?? 0.1,
    trainable: value.trainable ?? (value.lora === undefined ? ('all' as const) : []),
  }));

/** Settings of a training with every default filled in, and the texts that the config's `data` names. */
export type TrainingSettings = z.infer<typeof trainingSchema> & {
  /** Paths or globs of the texts to train on (`data.train`). */
  data: string[];
  /** Texts never trained on, or a share of the documents (`data.validation`). */
  heldOut?: string[] | number;
  /** How texts are read: the rest of `data`. */
  texts: {
    format: 'auto' | 'text' | 'messages' | 'prompt-completion' | 'preference';
    field: string | null;
    loss: 'assistant' | 'last' | 'all';
    end: string | false | null;
    long: 'cut' | 'refuse';
    pack: boolean | null;
    skipBroken: boolean;
    cache: string | null;
    workers: number;
    /** `facts`: how many needles; checkpoints keep that name. */
    recall: { share: number; lengths: number[]; facts: number } | null;
    heldOutDocuments: number;
  };
};
/** The `training` part of a config as a user writes it. */
export type TrainingInput = z.input<typeof trainingSchema>;
