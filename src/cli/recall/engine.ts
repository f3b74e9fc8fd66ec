// Answers by an engine that is stepped from here: what `lockstep.evaluation.recall.ask` does by torch.
import { appendFile } from 'node:fs/promises';
import path from 'node:path';
import { readContract } from '../../checkpoint/index.ts';
import type { Engine, Retrieved } from '../../engines/engine.ts';
import { Sequence } from '../../engines/sequence.ts';
import { Segmenter } from '../../planner/index.ts';
import { wholeLines } from '../eval/answers.ts';
import { lossOf } from '../eval/losses.ts';
import type { EvalRow } from '../eval/rows.ts';

/** A document as `lockstep.evaluation.recall.answer_files` writes it. Ranges are [from, to). */
interface Document {
  length: number;
  index: number;
  ids: number[];
  needles: {
    span: [number, number];
    tail: number[];
    opening: number;
    answer: [number, number];
  }[];
}

interface Answer {
  recalled: boolean;
  logp: number;
  cut: number | null;
  held: Record<string, number[]> | null;
}

export interface EngineInput {
  folder: string;
  row: EvalRow;
  signal: AbortSignal;
  /** Only called where something is left to do. */
  open(): Promise<Engine>;
  onProgress(row: string, done: number, total: number): void;
}

/** Ask for every needle of every document, in `ROW.jsonl` of the folder. */
export async function answersByEngine(input: EngineInput): Promise<void> {
  const { folder, row, signal } = input;
  const file = path.join(folder, `${row.name}.jsonl`);
  const have = new Set((await wholeLines<Document>(file)).map(keyOf));
  const documents = await wholeLines<Document>(path.join(folder, 'documents.jsonl'));
  const left = documents.filter((one) => !have.has(keyOf(one)));
  if (left.length === 0) return;
  const engine = await input.open();
  try {
    const source = await readContract(row.dir, { weights: 'ignored' });
    const total = left.reduce((sum, { length }) => sum + length, 0);
    let done = 0;
    for (const one of left) {
      const answers: Answer[] = [];
      for (const needle of one.needles) {
        signal.throwIfAborted();
        input.onProgress(`${row.name}, ${one.length} tokens`, done, total);
        const sequence = new Sequence(await engine.open(), new Segmenter(source));
        try {
          answers.push(await ask(sequence, engine, one.ids, needle, signal));
        } finally {
          await sequence.close();
        }
        done += one.length / one.needles.length;
      }
      const { length, index } = one;
      await appendFile(file, `${JSON.stringify({ length, index, answers })}\n`);
    }
  } finally {
    await engine.close();
  }
}

/** Everything up to the answer's first token without logits, then the answer token by token's row. */
async function ask(
  sequence: Sequence,
  engine: Engine,
  ids: readonly number[],
  { span, tail, opening, answer }: Document['needles'][number],
  signal: AbortSignal,
): Promise<Answer> {
  const { contract, info } = engine;
  const { sinks, size: carry } = contract.carry;
  const value = ids.length + answer[0];
  let cut: number | null = null;
  let held: Answer['held'] = null;
  const read = [...ids, ...tail.slice(0, answer[0] - 1)];
  const asked = tail.slice(answer[0] - 1, answer[1] - 1);
  let [recalled, logp] = [true, 0];
  for (const [tokens, rows] of [
    [read, 'none'],
    [asked, 'all'],
  ] as const) {
    for await (const ran of sequence.run(tokens, { rows, signal })) {
      for (let row = 0; row < ran.rows; row++) {
        const target = tail[ran.from + row + 1 - ids.length] as number;
        const logits = ran.logits.subarray(row * info.vocabulary, (row + 1) * info.vocabulary);
        recalled &&= mostProbable(logits) === target;
        logp -= lossOf(logits, target) / asked.length;
      }
      if (ran.boundary === null || ran.boundary.at >= value) continue;
      const { at, retrieved } = ran.boundary;
      cut = at - (ids.length + opening);
      held =
        span[1] > at - carry || span[0] < sinks
          ? null
          : heldBy(retrieved, span, sinks, contract.heads.long);
    }
  }
  return { recalled, logp, cut, held };
}

/** Per layer the KV heads whose rows hold the whole of [from, to); positions leave the sinks out. */
function heldBy(
  retrieved: readonly Retrieved[],
  [from, to]: readonly [number, number],
  sinks: number,
  long: readonly (readonly number[])[],
): Record<string, number[]> {
  const wanted = Array.from({ length: to - from }, (_, i) => from + i - sinks);
  return Object.fromEntries(
    retrieved.map(({ layer, positions }) => [
      layer,
      (long[layer] ?? []).filter((_, i) => {
        const rows = new Set(Array.from(positions[i] ?? []));
        return wanted.every((row) => rows.has(row));
      }),
    ]),
  );
}

function mostProbable(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) {
    if ((logits[i] as number) > (logits[best] as number)) best = i;
  }
  return best;
}

function keyOf({ length, index }: Pick<Document, 'length' | 'index'>): string {
  return `${length}/${index}`;
}
