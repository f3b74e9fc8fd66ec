// Documents made once, every row asked, one summary: torch in one job, other engines from here.
import { runJob } from '../../bridge/index.ts';
import type { Contract } from '../../contract/index.ts';
import { graceMs, openStepped, type RowEngineOptions } from '../eval/engine.ts';
import type { Bounds } from '../eval/ppl.ts';
import { comparisons, type EvalRow, type ShownRow, shown } from '../eval/rows.ts';
import { answersByEngine } from './engine.ts';

export type RecallRow = EvalRow;

/** What the documents depend on. */
export interface RecallAsked {
  lengths: number[];
  depths: number[];
  /** Documents of a length. */
  samples: number;
  seed: number;
  text: string;
  skip: number;
  /** Texts before the document and after the question. */
  wrap: [string, string];
}

export interface Mean {
  samples: number;
  /** Share of the needles whose every token was the most probable. */
  recalled: number;
  /** Mean log p of a token of the answer, nats. */
  logp: number;
}

export interface RecallFigures {
  cells: ({ length: number; depth: number } & Mean)[];
  lengths: ({ length: number } & Mean & Bounds)[];
  kinds: ({ length: number; kind: string } & Mean)[];
  /** How often a long head's retrieved rows held the needle; null for full attention. */
  heads: { layer: number; head: number; held: number }[] | null;
}

export interface RecallResult {
  asked: RecallAsked;
  text: { tokens: number; repeats: number };
  rows: (ShownRow & RecallFigures)[];
  differences: ({ of: string; to: string; length: number; difference: number } & Bounds)[];
}

export interface RecallInput {
  asked: RecallAsked;
  rows: readonly RecallRow[];
  folder: string;
  /** A folder with the tokenizer. */
  dir: string;
  contract: Contract;
  engine: RowEngineOptions;
  device: string;
  threads: number | null;
  python: string | undefined;
  signal: AbortSignal;
  onProgress(stage: string, done: number, total: number): void;
}

export async function runRecall(input: RecallInput): Promise<RecallResult> {
  const { asked, rows, folder, dir, contract, signal } = input;
  const others = rows.filter(({ engine }) => engine !== 'torch');
  const torch = rows.filter(({ engine }) => engine === 'torch');
  const { bos } = contract.tokenizer;
  const job = async (own: readonly RecallRow[], summary: object | null): Promise<unknown> => {
    const { event: _, ...result } = await runJob({
      ...{ module: 'lockstep.evaluation.recall', python: input.python, signal, graceMs },
      job: {
        folder,
        documents: { dir, bos, ...asked },
        rows: own.map(({ name, dir, execution }) => ({ name, dir, execution })),
        ...{ threads: input.threads, device: input.device, summary },
        dtype: own.find(({ precision }) => precision !== null)?.precision ?? 'float32',
      },
      onEvent: ({ event, stage, done, total }) => {
        if (event === 'progress') input.onProgress(String(stage), Number(done), Number(total));
      },
    });
    return result;
  };
  const summary = { rows: rows.map(({ name }) => name), pairs: pairsOf(rows) };
  let made = await job(torch, others.length === 0 ? summary : null);
  for (const row of others) {
    await answersByEngine({
      ...{ folder, row, signal, onProgress: input.onProgress },
      open: () => openStepped(row, input.engine),
    });
  }
  if (others.length > 0) made = await job([], summary);
  const { text, differences, ...found } = made as Pick<RecallResult, 'text' | 'differences'> & {
    rows: Record<string, RecallFigures>;
  };
  return {
    ...{ asked, text, differences },
    rows: rows.map((row) => ({ ...shown(row), ...(found.rows[row.name] as RecallFigures) })),
  };
}

/** As `lockstep eval` compares, and every checkpoint of --compare with full attention. */
function pairsOf(rows: readonly RecallRow[]): [string, string][] {
  const own = rows.filter(({ name }) => !name.startsWith('beside-'));
  const full = own.find(({ execution }) => execution === 'full');
  if (full === undefined) return comparisons(own);
  const compared = rows.filter((row) => !own.includes(row));
  return [...comparisons(own), ...compared.map((row): [string, string] => [row.name, full.name])];
}
