// What `lockstep train --job FILE` writes: the job for torchrun's processes, and the model that it starts from.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type AttachOptions, attach } from '../../checkpoint/index.ts';
import { replaceFile } from '../../checkpoint/write.ts';
import { LockstepError } from '../../errors.ts';
import { pythonRoot } from '../../paths.ts';
import { shellWord } from '../../shell-word.ts';
import { systemProblem } from '../../system-error.ts';

/**
 * Refuse to write over what is no such file.
 *
 * @throws LS_TRAIN_JOB
 */
export async function checkJobFile(file: string): Promise<void> {
  if (path.extname(file).toLowerCase() !== '.json') {
    throw problem(`expected --job to name a .json, got ${file}`, 'Name a file such as job.json.');
  }
  const there = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return null;
    throw notWritten(file, cause);
  });
  if (there === null || isJob(there)) return;
  throw problem(
    `expected no file or an earlier job at ${file}, got something else`,
    'Name another file with --job; nothing was changed.',
  );
}

function isJob(held: string): boolean {
  try {
    const job = JSON.parse(held) as Readonly<Record<string, unknown>> | null;
    const named = ['model', 'base', 'out'].every((name) => typeof job?.[name] === 'string');
    return named && typeof job?.['training'] === 'object';
  } catch {
    return false;
  }
}

/**
 * Write the model with its contract to the folder `file`.model, and the job to `file`.
 *
 * @param processes of each machine
 * @returns the command that starts them
 * @throws LS_TRAIN_JOB, and what `attach` throws of the config and the model
 */
export async function writeJobFile(
  file: string,
  job: Readonly<Record<string, unknown>>,
  start: Pick<AttachOptions, 'config' | 'modelDir' | 'warn'>,
  processes: number,
): Promise<string> {
  const model = `${path.resolve(file)}.model`;
  await attach({ ...start, out: model, force: true }).catch((error: unknown) => {
    throw ofJob(error, model);
  });
  await replaceFile(file, `${JSON.stringify({ ...job, model })}\n`).catch((cause: unknown) => {
    throw notWritten(file, cause);
  });
  return (
    `LOCKSTEP_JOB=${shellWord(file)} PYTHONPATH=${shellWord(pythonRoot)} ` +
    `torchrun --nproc-per-node ${processes} -m lockstep.train`
  );
}

/** An error about `model`, the folder to write. The fixes of `attach` name options that `train` does not have. */
function ofJob(error: unknown, model: string): unknown {
  const { code, cause } = error as LockstepError;
  if (code === 'LS_ATTACH_WRITE') return notWritten(model, cause);
  if (code === 'LS_ATTACH_EXISTS') return taken(model, 'something else', error);
  if (code === 'LS_ATTACH_TRAINED') return taken(model, 'a trained checkpoint', error);
  if (code === 'LS_ATTACH_SAME') return taken(model, "the model's own folder", error);
  return error;
}

function taken(model: string, got: string, cause: unknown): LockstepError {
  return problem(
    `expected nothing or the model of an earlier job at ${model}, got ${got}`,
    'Name another file with --job; its model is written to FILE.model.',
    cause,
  );
}

function notWritten(file: string, cause: unknown): LockstepError {
  return problem(
    `expected to write ${file}, got ${systemProblem(cause)}`,
    'Name a file that you can write to with --job.',
    cause,
  );
}

function problem(message: string, fix: string, cause?: unknown): LockstepError {
  return new LockstepError('LS_TRAIN_JOB', message, { fix, field: 'job', cause });
}
