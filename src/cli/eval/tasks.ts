// lockstep eval --suite ruler, longbench: samples made once, answered by every row, scored together.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { runJob } from '../../bridge/index.ts';
import type { Contract } from '../../contract/index.ts';
import type { Runner } from '../../engines/runner.ts';
import { loadTokenizer } from '../../tokenizer/tokenizer.ts';
import { chatWrap } from '../shared/chat-wrap.ts';
import { answer, type Prompt } from './answers.ts';
import { graceMs } from './engine.ts';
import type { Bounds } from './ppl.ts';
import { comparisons, type EvalRow, type ShownRow, shown } from './rows.ts';

/** Tasks in the recipe's order; `lockstep.evaluation.ruler.tasks` says what they are. */
export const rulerTasks = [
  'niah_single_1',
  'niah_single_2',
  'niah_single_3',
  'niah_multikey_1',
  'niah_multikey_2',
  'niah_multikey_3',
  'niah_multivalue',
  'niah_multiquery',
  'vt',
  'cwe',
  'fwe',
] as const;

/** Those of them that hide needles in a text of the user's (`Niah("essay")` in Python). */
export const essayTasks: readonly string[] = [
  'niah_single_2',
  'niah_single_3',
  'niah_multikey_1',
  'niah_multivalue',
  'niah_multiquery',
];

/** A mean score from 0 to 100 with its 95% interval; null where a task has fewer than 8 samples. */
export interface Score extends Bounds {
  score: number;
}

export interface TasksRow extends ShownRow {
  scores: ({ task: string; length: number; samples: number; empty: number } & Score)[];
  /** Over the tasks of a length, each with the mean of its samples. */
  means: ({ length: number } & Score)[];
}

export interface TasksResult {
  tasks: string[];
  lengths: number[];
  samples: number;
  seed?: number;
  /** ruler: text that needles are hidden in; `repeats`: how often the longest sample holds it. */
  haystack?: { file: string; words: number; repeats: number };
  /** longbench: folder of the copy. */
  data?: string;
  rows: TasksRow[];
  /** Mean of row `of` less that of row `to`, over the same samples. */
  differences: ({ of: string; to: string; length: number; difference: number } & Bounds)[];
}

/** What samples depend on; `tasks` null: all that the copy of LongBench has. */
export type TasksAsked = {
  lengths: number[];
  samples: number;
  /** Ask as a user of the checkpoint's chat template. */
  chat: boolean;
} & (
  | { suite: 'ruler'; tasks: string[]; seed: number; haystack: string }
  | { suite: 'longbench'; tasks: string[] | null; data: string }
);

export interface TasksInput {
  asked: TasksAsked;
  folder: string;
  /** A folder with the contract's tokenizer. */
  dir: string;
  contract: Contract;
  rows: EvalRow[];
  python: string | undefined;
  signal: AbortSignal;
  open(row: EvalRow): Promise<Runner>;
  onProgress(stage: string, done: number, total: number): void;
}

export async function runTasks(input: TasksInput): Promise<TasksResult> {
  const { asked, folder, dir, contract, rows, signal } = input;
  const { bos } = contract.tokenizer;
  const tokenizer = await loadTokenizer(dir);
  const job = async (module: string, description: object) => {
    const { event: _, ...result } = await runJob({
      module: `lockstep.evaluation.${module}`,
      python: input.python,
      ...{ signal, graceMs },
      job: { folder, ...description },
      onEvent: ({ event, stage, done, total }) => {
        if (event === 'progress') input.onProgress(String(stage), Number(done), Number(total));
      },
    });
    return result as unknown;
  };
  const { chat, ...what } = asked;
  const wrap = chat ? await chatWrap(tokenizer) : ['', ''];
  const made = (await job(`${asked.suite}.make`, { ...what, dir, bos, wrap })) as {
    tasks: string[];
    haystack?: { words: number; repeats: number };
  };
  const prompts = await readPrompts(folder);
  for (const row of rows) {
    await answer({
      ...{ folder, row, prompts, tokenizer, contract, signal },
      parallel: row.engine === 'vllm' ? 8 : 1,
      open: () => input.open(row),
      onProgress: input.onProgress,
    });
  }
  const names = rows.map((row) => row.name);
  const scored = (await job('score', {
    ...{ suite: asked.suite, rows: names, pairs: comparisons(rows) },
  })) as { rows: Record<string, TasksRow> } & Pick<TasksResult, 'differences'>;
  const { lengths, samples } = asked;
  return {
    ...{ tasks: made.tasks, lengths, samples },
    ...(asked.suite === 'ruler' && made.haystack !== undefined
      ? { seed: asked.seed, haystack: { file: asked.haystack, ...made.haystack } }
      : {}),
    ...(asked.suite === 'longbench' ? { data: asked.data } : {}),
    rows: rows.map((row) => ({ ...shown(row), ...(scored.rows[row.name] as TasksRow) })),
    differences: scored.differences,
  };
}

async function readPrompts(folder: string): Promise<Prompt[]> {
  const text = await readFile(path.join(folder, 'samples.jsonl'), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const sample = JSON.parse(line) as Omit<Prompt, 'text'> & { prompt: string; prefix: string };
      const { task, length, index, prompt, prefix, maxTokens } = sample;
      return { task, length, index, maxTokens, text: prompt + prefix };
    });
}
