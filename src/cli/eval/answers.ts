// Answers of a row's engine to prompts, one line for each sample, so that a later call can resume.
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Contract } from '../../contract/index.ts';
import type { Runner } from '../../engines/runner.ts';
import { LockstepError } from '../../errors.ts';
import { encodePrompt } from '../../server/prompt/tokens.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { EvalRow } from './rows.ts';

/** What an engine is asked: the text that it reads, and how much it may write. */
export interface Prompt {
  task: string;
  length: number;
  index: number;
  text: string;
  maxTokens: number;
}

interface Answer {
  task: string;
  length: number;
  index: number;
  text: string;
}

export interface AnswerInput {
  folder: string;
  row: EvalRow;
  prompts: readonly Prompt[];
  tokenizer: Tokenizer;
  contract: Contract;
  /** Sequences that run at once. */
  parallel: number;
  signal: AbortSignal;
  /** Open what runs them; only called where something is left to do. */
  open(): Promise<Runner>;
  onProgress(row: string, done: number, total: number): void;
}

/** Greedy answers to every prompt, in `ROW.jsonl` of the folder. */
export async function answer(input: AnswerInput): Promise<void> {
  const { folder, row, prompts, signal } = input;
  const file = path.join(folder, `${row.name}.jsonl`);
  const known = new Set((await wholeLines<Answer>(file)).map(keyOf));
  const left = prompts.filter((prompt) => !known.has(keyOf(prompt)));
  if (left.length === 0) return;
  const runner = await input.open();
  let done = known.size;
  const worker = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      signal.throwIfAborted();
      input.onProgress(row.name, done, prompts.length);
      const text = await generate(runner, next, input);
      const { task, length, index } = next;
      await appendFile(file, `${JSON.stringify({ task, length, index, text })}\n`);
      done += 1;
    }
  };
  try {
    await Promise.all(Array.from({ length: input.parallel }, worker));
  } finally {
    await runner.close();
  }
}

async function generate(
  runner: Runner,
  { text, maxTokens }: Prompt,
  { tokenizer, contract, signal }: AnswerInput,
): Promise<string> {
  const prompt = await encodePrompt(text, tokenizer, contract);
  const request = {
    ...{ prompt, maxTokens, stop: [], logprobs: null, traced: false, streamed: false },
    temperature: 0,
  };
  const run = await runner.run(request, signal);
  let answered = '';
  for await (const event of run.events) {
    if (event.type !== 'ran') answered += event.text;
  }
  return answered;
}

/** Lines that an earlier call wrote whole; what a crash cut off is taken out of the file. */
export async function wholeLines<Line>(file: string): Promise<Line[]> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  const end = text.lastIndexOf('\n') + 1;
  if (end < text.length) await writeFile(file, text.slice(0, end));
  try {
    return text
      .slice(0, end)
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Line);
  } catch (cause) {
    throw new LockstepError('LS_EVAL_ANSWERS', `expected lines of JSON in ${file}, got others`, {
      fix: 'Remove that file; the other rows are kept.',
      cause,
    });
  }
}

function keyOf({ task, length, index }: Pick<Answer, 'task' | 'length' | 'index'>): string {
  return `${task}/${length}/${index}`;
}
