// The job that records a checkpoint's probe, for `lockstep probe` and `lockstep attach`.
import path from 'node:path';
import { type Python, runJob } from '../../bridge/index.ts';

/** What was recorded, as the job reports it (python/lockstep/verification/probe.py). */
export interface Recorded {
  path: string;
  tokens: number;
  boundaries: number;
  positions: number;
  milliseconds: number;
}

/** @throws LS_PROBE_*, LS_CONTRACT_*, LS_MODEL_*, LS_PYTHON_*, LS_JOB_* */
export async function recordProbe(
  dir: string,
  options: { python?: Python | string | undefined; signal?: AbortSignal },
): Promise<Recorded> {
  const { event: _, ...recorded } = await runJob({
    module: 'lockstep.verification.probe',
    python: options.python,
    signal: options.signal,
    job: { dir: path.resolve(dir) },
  });
  return recorded as unknown as Recorded;
}

export function recordedLine({ tokens, boundaries, positions, milliseconds }: Recorded): string {
  return `probe recorded: ${tokens} tokens, ${boundaries} boundaries, ${positions} positions, ${(milliseconds / 1000).toFixed(1)} s`;
}
