// lockstep eval --suite ppl: losses of the same windows in every row, then one summary.
import { writeFileSync } from 'node:fs';
import { access, rename } from 'node:fs/promises';
import path from 'node:path';
import { type JobEvent, runJob } from '../../bridge/index.ts';
import type { Engine } from '../../engines/engine.ts';
import { graceMs } from './engine.ts';
import { readWindows, tokenLosses } from './losses.ts';
import { comparisons, type EvalRow, type ShownRow, shown } from './rows.ts';
import { openVllmRow } from './vllm.ts';

/** An estimate with the bounds of its 95% interval; null where there is too little text for one. */
export interface Bounds {
  low: number | null;
  high: number | null;
}

export interface PplRow extends ShownRow {
  byLength: ({ tokens: number; nll: number; perplexity: number } & Bounds)[];
  /** Tokens [from, to) of every window. */
  byPosition: ({ from: number; to: number; perplexity: number } & Bounds)[];
}

export interface PplResult {
  lengths: number[];
  /** Lengths by default that the texts are too short for. */
  skipped: number[];
  /** Texts that no window was cut from: too short, or more of them than windows. */
  unused: string[];
  windows: { text: string; tokens: number }[];
  /** Seconds that torch or vLLM spent on a row now; a row that was there already has none. */
  seconds: Record<string, number>;
  interval: { level: number; draws: number; block: number };
  rows: PplRow[];
  /** Perplexity of row `of` over that of row `to`, on the same tokens. */
  ratios: ({ of: string; to: string; tokens: number; ratio: number } & Bounds)[];
}

/** What perplexities depend on. */
export interface PplAsked {
  texts: string[];
  skip: number;
  lengths: number[];
  /** Lengths were asked for: too short a text is an error. */
  exact: boolean;
  windows: number;
  bins: number;
}

export interface PplInput extends PplAsked {
  folder: string;
  /** A folder with the contract's tokenizer. */
  dir: string;
  bos: number | null;
  rows: EvalRow[];
  /** Where torch computes. */
  device: string;
  threads: number | null;
  python: string | undefined;
  signal: AbortSignal;
  /** Open the engine of a row that is stepped from here. */
  open(row: EvalRow): Promise<Engine>;
  onProgress(row: string, done: number, total: number): void;
}

export async function runPpl(input: PplInput): Promise<PplResult> {
  const { rows, lengths, dir, texts, skip, windows, bos, exact, bins } = input;
  const { folder, python, signal } = input;
  const others = rows.filter((row) => row.engine !== 'torch');
  const summary = { rows: rows.map((row) => row.name), pairs: comparisons(rows), bins };
  const onEvent = ({ event, stage, done, total }: JobEvent): void => {
    if (event === 'progress') input.onProgress(String(stage), Number(done), Number(total));
  };
  const job = async (torchRows: readonly EvalRow[], last: boolean): Promise<Summed> => {
    const { event: _, ...result } = await runJob({
      ...{ module: 'lockstep.evaluation.ppl', python, signal, graceMs, onEvent },
      job: {
        folder,
        windows: { dir, texts, skip, windows, bos, exact, lengths },
        rows: torchRows.map(({ name, dir, execution }) => ({ name, dir, attention: execution })),
        threads: input.threads,
        device: input.device,
        dtype: rows.find((row) => row.engine === 'torch')?.precision ?? 'float32',
        summary: last ? summary : null,
      },
    });
    return result as unknown as Summed;
  };
  const vllm = await Promise.all(
    others.filter(({ engine }) => engine === 'vllm').map((row) => openVllmRow(row, python)),
  );
  const torch = rows.filter((row) => row.engine === 'torch');
  let made = await job(torch, others.length === 0);
  if (others.length > 0) {
    const { seconds } = made;
    for (const row of others) {
      const own = vllm.find(({ name }) => name === row.name);
      if (own === undefined) await engineLosses(input, row, made.windows.length);
      else Object.assign(seconds, await own.losses({ folder, signal, onEvent }));
    }
    made = { ...(await job([], true)), seconds };
  }
  return {
    ...made,
    rows: rows.map((row) => ({ ...shown(row), ...(made.rows[row.name] as Figures) })),
  };
}

type Figures = Pick<PplRow, 'byLength' | 'byPosition'>;
type Summed = Omit<PplResult, 'rows'> & { rows: Record<string, Figures> };

/** Losses through a serving engine, into the files where `torch_losses` would put them. */
async function engineLosses(input: PplInput, row: EvalRow, windows: number): Promise<void> {
  const { folder, signal } = input;
  const files = Array.from({ length: windows }, (_, n) =>
    path.join(folder, `${row.name}-${n}.f64`),
  );
  const there = await Promise.all(
    files.map((file) =>
      access(file).then(
        () => true,
        () => false,
      ),
    ),
  );
  if (there.every(Boolean)) return;
  const engine = await input.open(row);
  try {
    const sequences = await readWindows(folder);
    for (const [n, file] of files.entries()) {
      if (there[n]) continue;
      input.onProgress(row.name, n, windows);
      const losses = await tokenLosses(engine, row.dir, sequences[n] ?? [], signal);
      writeFileSync(`${file}.part`, new Uint8Array(losses.buffer));
      await rename(`${file}.part`, file);
    }
  } finally {
    await engine.close();
  }
}
