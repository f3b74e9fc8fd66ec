// The rows of an evaluation: whose weights, with which attention, by which engine.
import type { EvaluatedCheckpoint, Weights } from './subjects.ts';

export type Attention = 'segmented' | 'full';
export type EvalEngine = 'torch' | 'onnx' | 'vllm';

export interface EvalRow {
  /** `trained-segmented`, `untrained-full`, ... */
  name: string;
  weights: Weights;
  execution: Attention;
  /** Full attention is always torch's: the other engines run segments alone. */
  engine: EvalEngine;
  /** What the engine computes in; null: its own default. */
  precision: string | null;
  /** Folder with these weights and the contract. */
  dir: string;
  /** The folder goes when the evaluation ends. */
  scratch: boolean;
}

/** A row as it is reported: without temporary folders. */
export type ShownRow = Omit<EvalRow, 'dir' | 'scratch'>;

export function shown<T extends EvalRow>({ dir: _dir, scratch: _scratch, ...row }: T) {
  return row;
}

/** Segmented rows first, the checkpoint before the model that it began from. */
export function rowsOf(
  subjects: readonly EvaluatedCheckpoint[],
  attentions: readonly Attention[],
  engine: EvalEngine,
  precision: string | null,
): EvalRow[] {
  return (['segmented', 'full'] as const)
    .filter((execution) => attentions.includes(execution))
    .flatMap((execution) =>
      subjects.map((subject) => {
        const own = execution === 'full' ? 'torch' : engine;
        return {
          ...subject,
          name: `${subject.weights}-${execution}`,
          execution,
          engine: own,
          precision: own === engine ? precision : null,
        };
      }),
    );
}

/** Pairs of rows to compare: the first against every other, and segmented against full of the untrained model. */
export function comparisons(rows: readonly EvalRow[]): [string, string][] {
  const names = rows.map((row) => row.name);
  const first = names[0] as string;
  const pairs: [string, string][] = names.slice(1).map((name) => [first, name]);
  const rest: [string, string] = ['untrained-segmented', 'untrained-full'];
  const extra = rest.every((name) => names.includes(name)) && first !== rest[0];
  return extra ? [...pairs, rest] : pairs;
}
