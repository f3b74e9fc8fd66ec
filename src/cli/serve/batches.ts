// The options of `lockstep serve` about batches: where their files are, and how much of the server they may have.
import type { Command } from 'commander';
import { LockstepError } from '../../errors.ts';
import { BATCH_BYTES, BatchStore, type ServerOptions } from '../../server/index.ts';
import { parsePositiveInt } from '../shared/option-values.ts';

export interface BatchOptions {
  batches?: string;
  batchBytes?: number;
  batchSlots?: number;
}

export function addBatchOptions(command: Command): Command {
  return command
    .option(
      '--batches <folder>',
      'answer batches (/v1/files, /v1/batches), and keep their files here',
    )
    .option(
      '--batch-bytes <n>',
      `maximum bytes of files of batches (default: ${BATCH_BYTES})`,
      parsePositiveInt,
    )
    .option(
      '--batch-slots <n>',
      'maximum requests of batches at once (default: 1; vllm: one less than --max-sessions)',
      parsePositiveInt,
    );
}

/**
 * The server's options of the same meaning. The server closes the folder.
 *
 * @throws LS_USAGE, LS_BATCH_FOLDER, LS_BATCH_LOCK
 */
export async function openBatchStore(options: BatchOptions): Promise<ServerOptions> {
  const { batches, batchBytes, batchSlots } = options;
  if (batches === undefined) {
    for (const [name, value] of [
      ['batch-bytes', batchBytes],
      ['batch-slots', batchSlots],
    ] as const) {
      if (value === undefined) continue;
      const message = `expected --batches FOLDER with --${name}`;
      throw new LockstepError('LS_USAGE', message, { fix: 'Give both.', field: name });
    }
    return {};
  }
  return { batches: await BatchStore.open(batches, batchBytes), batchSlots };
}
