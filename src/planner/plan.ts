// Plans: all cuts of a text at once, or of a stream in bounded memory.
import type { PolicyHost } from './host.ts';
import { Segmenter } from './segmenter.ts';
import type { PolicySource } from './source.ts';

/**
 * Cuts that are decided after these tokens, e_i ascending. The end of the tokens is none of them.
 *
 * @throws LS_POLICY_*, LS_PLAN_TOKEN naming the policy, the token's index and id
 */
export function plan(source: PolicySource | PolicyHost, tokens: ArrayLike<number>): number[] {
  const segmenter = new Segmenter(source);
  try {
    return segmenter.pushMany(tokens);
  } finally {
    segmenter.close();
  }
}

/** What one chunk of a stream added to the plan. */
export interface PlanProgress {
  /** Tokens planned so far. */
  readonly position: number;
  /** Cuts decided within this chunk. */
  readonly boundaries: readonly number[];
}

/** Plan a stream of token chunks as they come; holds one chunk at a time. */
export async function* planStream(
  source: PolicySource | PolicyHost,
  chunks: AsyncIterable<ArrayLike<number>> | Iterable<ArrayLike<number>>,
): AsyncGenerator<PlanProgress> {
  const segmenter = new Segmenter(source);
  try {
    for await (const chunk of chunks) {
      const boundaries = segmenter.pushMany(chunk);
      yield { position: segmenter.position, boundaries };
    }
  } finally {
    segmenter.close();
  }
}
