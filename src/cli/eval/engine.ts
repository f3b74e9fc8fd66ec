// The engine of a row: what `lockstep serve` would open, or torch with full attention.
import { runJob } from '../../bridge/index.ts';
import { readContract } from '../../checkpoint/index.ts';
import type { Engine } from '../../engines/engine.ts';
import type { Runner } from '../../engines/runner.ts';
import { steppedRunner } from '../../engines/stepped.ts';
import { loadTokenizer } from '../../tokenizer/tokenizer.ts';
import { checkChoice, type EngineChoice, openChosen } from '../serve/engine.ts';
import type { StageBar } from '../shared/stage-bar.ts';
import type { EvalRow } from './rows.ts';

/** From SIGTERM to SIGKILL: what an evaluation keeps is whole or absent, whenever it ends. */
export const graceMs = 3_000;

export interface RowEngineOptions {
  threads?: number;
  python?: string;
  /** Tokens of the longest sequence: vLLM allows a checkpoint's own context otherwise. */
  maxTokens: number;
  signal: AbortSignal;
  say(line: string): void;
}

/** What the options of a command, its cancellation and its bar say of the engines it opens. */
export function rowEngineOptions(
  { threads, python }: { threads?: number; python?: string },
  maxTokens: number,
  signal: AbortSignal,
  bar: StageBar,
): RowEngineOptions {
  return {
    ...{ maxTokens, signal, say: (line) => bar.update(line, 0, 1) },
    ...(python === undefined ? {} : { python }),
    ...(threads === undefined ? {} : { threads }),
  };
}

/** A row's engine as it is stepped: every engine but vLLM. */
export async function openStepped(row: EvalRow, options: RowEngineOptions): Promise<Engine> {
  const { threads, python } = options;
  const { precision } = row;
  const common = { python, ...(threads === undefined ? {} : { threads }) };
  if (row.engine === 'torch') {
    const { openTorchEngine } = await import('../../engines/torch.ts');
    const dtype = (precision ?? 'float32') as 'float32';
    return openTorchEngine(row.dir, { ...common, dtype, execution: row.execution });
  }
  await exported(row, options);
  const { openOnnxEngine } = await import('../../engines/onnx.ts');
  return openOnnxEngine(row.dir, { ...common, precision: (precision ?? 'fp32') as 'fp32' });
}

/** A row's engine as a runner of whole requests. */
export async function openRunner(row: EvalRow, options: RowEngineOptions): Promise<Runner> {
  const source = await readContract(row.dir);
  const tokenizer = await loadTokenizer(row.dir);
  if (row.engine !== 'vllm') {
    return steppedRunner(await openStepped(row, options), tokenizer, source);
  }
  const parts = { dir: row.dir, source, tokenizer, model: row.name };
  const { say, signal } = options;
  const { engine } = await openChosen(parts, choiceOf(row, options), [], say, signal);
  return engine as Runner;
}

/**
 * What would keep a row's engine from running is found before anything has run.
 *
 * @throws LS_USAGE for a precision or threads that a row's engine does not have; LS_ENGINE_* where
 *   a checkpoint has no graph of its own
 */
export async function checkEngines(
  rows: readonly EvalRow[],
  options: RowEngineOptions,
): Promise<void> {
  for (const row of rows) {
    await checkChoice(choiceOf(row, options), []);
    if (row.engine !== 'onnx' || row.scratch) continue;
    const { readGraph } = await import('../../engines/onnx.ts');
    const { contract } = await readContract(row.dir);
    await readGraph(row.dir, (row.precision ?? 'fp32') as 'fp32', contract);
  }
}

function choiceOf({ engine, precision }: EvalRow, options: RowEngineOptions): EngineChoice {
  const { threads, python, maxTokens } = options;
  return {
    engine,
    log: 'error',
    probe: true,
    maxTokens,
    ...(precision === null ? {} : { precision }),
    ...(threads === undefined ? {} : { threads }),
    // Beside the engine onnx it is the interpreter of this command's own jobs.
    ...(python === undefined || engine === 'onnx' ? {} : { python }),
  };
}

/** The base model's graph is exported to a temporary folder: only this evaluation uses it. */
async function exported(row: EvalRow, options: RowEngineOptions): Promise<void> {
  if (!row.scratch) return;
  options.say(`exporting ${row.name}`);
  await runJob({
    module: 'lockstep.export.job',
    graceMs,
    python: options.python,
    signal: options.signal,
    job: {
      dir: row.dir,
      precisions: [row.precision ?? 'fp32'],
      force: true,
      maxPerplexityRatio: {},
      text: null,
    },
  });
}
