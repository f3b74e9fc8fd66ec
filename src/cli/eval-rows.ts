// The rows of an evaluation: whose weights, executed how, by which engine.
import type { Subject, Weights } from './eval-subjects.ts';

export type Execution = 'segmented' | 'full';
export type EvalEngine = 'torch' | 'onnx' | 'vllm';

export interface EvalRow {
  /** `trained-segmented`, `untrained-full`, ... */
  name: string;
  weights: Weights;
  execution: Execution;
  /** Full attention is always torch's: the other engines run segments alone. */
  engine: EvalEngine;
  /** Folder with these weights and the contract. */
  dir: string;
}

/** Segmented rows first, the checkpoint before the model that it began from. */
export function rowsOf(
  subjects: readonly Subject[],
  executions: readonly Execution[],
  engine: EvalEngine,
): EvalRow[] {
  return (['segmented', 'full'] as const)
    .filter((execution) => executions.includes(execution))
    .flatMap((execution) =>
      subjects.map(({ weights, dir }) => ({
        name: `${weights}-${execution}`,
        weights,
        execution,
        engine: execution === 'full' ? ('torch' as const) : engine,
        dir,
      })),
    );
}
