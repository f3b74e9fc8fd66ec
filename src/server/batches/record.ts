// What is known of a batch: its record on the disk, and what clients are shown of it.
import { z } from 'zod';
import { isBatchId, isFileId } from './ids.ts';
import { ENDPOINTS } from './line.ts';

/** How a batch may end. */
export const ENDS = ['completed', 'failed', 'expired', 'cancelled'] as const;
export type End = (typeof ENDS)[number];

const moment = z.int().nullable();

export const batchRecord = z.strictObject({
  /** The format's version. */
  lockstepBatch: z.literal(1),
  id: z.string().refine(isBatchId),
  /** As of its files. */
  owner: z.string(),
  endpoint: z.enum(ENDPOINTS),
  input_file_id: z.string().refine(isFileId),
  completion_window: z.string(),
  metadata: z.record(z.string(), z.string()).nullable(),
  status: z.enum(['validating', 'in_progress', 'finalizing', 'cancelling', ...ENDS]),
  /** How it is to end, once that is settled: only its files are to be put in place. */
  ending: z.enum(ENDS).nullable(),
  created_at: z.int(),
  expires_at: z.int(),
  in_progress_at: moment,
  finalizing_at: moment,
  completed_at: moment,
  failed_at: moment,
  expired_at: moment,
  cancelling_at: moment,
  cancelled_at: moment,
  output_file_id: z.string().nullable(),
  error_file_id: z.string().nullable(),
  request_counts: z.strictObject({ total: z.int(), completed: z.int(), failed: z.int() }),
  errors: z.array(
    z.strictObject({
      code: z.string(),
      message: z.string(),
      param: z.string().nullable(),
      line: z.int().nullable(),
    }),
  ),
});

export type BatchRecord = z.infer<typeof batchRecord>;

export function hasEnded({ status }: BatchRecord): boolean {
  return (ENDS as readonly string[]).includes(status);
}

/** Why no line of a batch runs at the moment. */
export interface Pause {
  /** Code of the refusal that it waits out. */
  code: string;
  /** Seconds since 1970. */
  until: number;
}

/** The batch as OpenAI's interface shows it, and why it pauses. */
export function batchObject(record: BatchRecord, paused: Pause | null): object {
  const {
    lockstepBatch: _,
    owner: __,
    ending,
    errors,
    output_file_id,
    error_file_id,
    ...rest
  } = record;
  // Names of files that are not in place yet are of no use.
  const ended = hasEnded(record);
  return {
    object: 'batch',
    ...rest,
    output_file_id: ended ? output_file_id : null,
    error_file_id: ended ? error_file_id : null,
    errors: errors.length === 0 ? null : { object: 'list', data: errors },
    lockstep: { paused },
  };
}
