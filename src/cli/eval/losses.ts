// -log p of every token of a sequence, by an engine that runs it in segments.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { readContract } from '../../checkpoint/index.ts';
import type { Engine } from '../../engines/engine.ts';
import { Sequence } from '../../engines/sequence.ts';
import { Segmenter } from '../../planner/index.ts';

/** Tokens of one step: their rows of logits are all alive at once. */
const pieceTokens = 64;

/** Ids of the windows that `lockstep.evaluation.windows` cut. */
export async function readWindows(folder: string): Promise<number[][]> {
  const text = await readFile(path.join(folder, 'windows.json'), 'utf8');
  return (JSON.parse(text) as { ids: number[] }[]).map(({ ids }) => ids);
}

/**
 * Losses in nats, one a target: [ids.length - 1], in float64 of the engine's float32 logits.
 *
 * @param dir the folder that the engine was opened on
 */
export async function tokenLosses(
  engine: Engine,
  dir: string,
  ids: readonly number[],
  signal: AbortSignal,
): Promise<Float64Array> {
  const losses = new Float64Array(Math.max(0, ids.length - 1));
  const { vocabulary } = engine.info;
  const source = await readContract(dir, { weights: 'ignored' });
  const sequence = new Sequence(await engine.open(), new Segmenter(source));
  try {
    for await (const ran of sequence.run(ids, { rows: 'all', signal, pieceTokens })) {
      for (let row = 0; row < ran.rows; row++) {
        const target = ids[ran.from + row + 1];
        if (target === undefined) break;
        const logits = ran.logits.subarray(row * vocabulary, (row + 1) * vocabulary);
        losses[ran.from + row] = lossOf(logits, target);
      }
    }
  } finally {
    await sequence.close();
  }
  return losses;
}

/** -log p of a target, in float64 of one row of logits. */
export function lossOf(logits: Float32Array, target: number): number {
  let most = Number.NEGATIVE_INFINITY;
  for (const logit of logits) if (logit > most) most = logit;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - most);
  return Math.log(sum) + most - (logits[target] as number);
}
