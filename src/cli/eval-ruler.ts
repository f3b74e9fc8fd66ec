// lockstep eval --suite ruler: samples made once, answered by every row's engine, scored together.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { runJob } from '../bridge/index.ts';
import type { Runner } from '../engines/runner.ts';
import { LockstepError } from '../errors.ts';
import { loadTokenizer, type Tokenizer } from '../planner/tokenizer.ts';
import { chatTemplate } from '../server/chat.ts';
import { answer, type Prompt } from './eval-answers.ts';
import { type EvalRow, type ShownRow, shown } from './eval-rows.ts';

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

/** A mean score from 0 to 100 with its 95% interval; null where there is but one sample. */
export interface Score {
  score: number;
  low: number | null;
  high: number | null;
}

export interface RulerRow extends ShownRow {
  scores: ({ task: string; length: number; samples: number; empty: number } & Score)[];
  /** Over all samples of a length. */
  means: ({ length: number } & Score)[];
}

export interface RulerResult {
  tasks: string[];
  lengths: number[];
  samples: number;
  seed: number;
  /** Text that needles are hidden in; `repeats`: how often the longest sample holds it. */
  haystack: { file: string; words: number; repeats: number };
  rows: RulerRow[];
}

export interface RulerInput {
  folder: string;
  /** A folder with the contract's tokenizer. */
  dir: string;
  tasks: string[];
  lengths: number[];
  samples: number;
  seed: number;
  haystack: string;
  /** Ask as a user of the checkpoint's chat template. */
  chat: boolean;
  bos: number | null;
  rows: EvalRow[];
  python: string | undefined;
  signal: AbortSignal;
  open(row: EvalRow): Promise<Runner>;
  onProgress(stage: string, done: number, total: number): void;
}

export async function runRuler(input: RulerInput): Promise<RulerResult> {
  const { folder, dir, tasks, lengths, samples, seed, haystack, bos, rows, signal } = input;
  const tokenizer = await loadTokenizer(dir);
  const job = async (module: string, description: object) => {
    const { event: _, ...result } = await runJob({
      module: `lockstep.evaluation.ruler.${module}`,
      python: input.python,
      signal,
      job: { folder, ...description },
      onEvent: ({ event, stage, done, total }) => {
        if (event === 'progress') input.onProgress(String(stage), Number(done), Number(total));
      },
    });
    return result as unknown;
  };
  const wrap = input.chat ? chatWrap(tokenizer) : ['', ''];
  const made = (await job('make', {
    ...{ dir, tasks, lengths, samples, seed, haystack, bos, wrap },
  })) as { essayWords: number; repeats: number };
  const prompts = await readPrompts(folder);
  for (const row of rows) {
    await answer({
      ...{ folder, row, prompts, tokenizer, signal },
      bos: bos !== null,
      parallel: row.engine === 'vllm' ? 8 : 1,
      open: () => input.open(row),
      onProgress: input.onProgress,
    });
  }
  const names = rows.map((row) => row.name);
  const scored = (await job('score', { rows: names })) as { rows: Record<string, RulerRow> };
  return {
    ...{ tasks, lengths, samples, seed },
    haystack: { file: haystack, words: made.essayWords, repeats: made.repeats },
    rows: rows.map((row) => ({ ...shown(row), ...(scored.rows[row.name] as RulerRow) })),
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

/** What the chat template puts before and behind a user's message. */
function chatWrap(tokenizer: Tokenizer): [string, string] {
  const template = chatTemplate(tokenizer);
  const mark = '\u{e000}';
  const [before, behind, ...more] = template?.([{ role: 'user', content: mark }]).split(mark) ?? [];
  if (before === undefined || behind === undefined || more.length > 0) {
    throw new LockstepError(
      'LS_EVAL_CHAT',
      `expected a chat template that holds a message once in ${tokenizer.dir}, got ${template === null ? 'none' : 'another'}`,
      { mend: 'Leave --chat out: the model then goes on with plain text.', field: 'chat' },
    );
  }
  return [before, behind];
}
