// Losses of a row through vLLM: a job runs it over whole windows, for it cannot be stepped from here.
import path from 'node:path';
import { findPython, type RunJobOptions, runJob } from '../../bridge/index.ts';
import { graceMs } from './engine.ts';
import type { EvalRow } from './rows.ts';

export interface VllmRow {
  name: string;
  /** Write the losses that are missing; gives the seconds it took, by row. */
  losses(input: LossesInput): Promise<Record<string, number>>;
}

export interface LossesInput extends Pick<RunJobOptions, 'onEvent' | 'signal'> {
  /** Holds the windows, and takes their losses. */
  folder: string;
}

/**
 * Find what would keep vLLM from running a row before anything has run.
 *
 * @throws LS_VLLM_PRECISION, LS_PYTHON_*
 */
export async function openVllmRow(
  { name, dir, precision }: EvalRow,
  python: string | undefined,
): Promise<VllmRow> {
  const { vllmInfo, vllmModules } = await import('../../engines/vllm/index.ts');
  const info = await vllmInfo(dir, precision ?? undefined);
  const interpreter = await findPython({ python, modules: vllmModules });
  return {
    name,
    async losses({ folder, ...options }) {
      const { seconds } = await runJob({
        module: 'lockstep.evaluation.vllm_losses',
        python: interpreter,
        graceMs,
        ...options,
        job: { folder, row: { name, dir: path.resolve(dir) }, dtype: info.precision },
      });
      return seconds as Record<string, number>;
    },
  };
}
