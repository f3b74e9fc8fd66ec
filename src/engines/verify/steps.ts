// How an engine is fed the text: most of it as a prompt, its end as an answer.
import { STEP_TOKENS } from '../cached-sequence.ts';

const DECODED = 256;

/** How many tokens at the end of a text are decoded one by one: the last 256, or half of a short text. */
export const decodedTokens = (tokens: number): number => Math.min(DECODED, Math.floor(tokens / 2));

export interface VerifyStep {
  /** Position of the first token. */
  from: number;
  /** Position behind the last one. */
  end: number;
  /** The segment ends with the last token. */
  close: boolean;
}

/**
 * Steps as a server takes them: a prompt in steps of at most `STEP_TOKENS` tokens that end at the cuts,
 * then single tokens (`decodedTokens`).
 *
 * @param tokens length T of the text
 * @param boundaries cuts e_i, ascending
 */
export function* verifySteps(
  tokens: number,
  boundaries: Iterable<number>,
): Generator<VerifyStep, void> {
  const cuts = new Set(boundaries);
  const prompt = tokens - decodedTokens(tokens);
  let from = 0;
  for (let end = 1; end <= tokens; end++) {
    const close = cuts.has(end);
    if (!close && end < prompt && end - from < STEP_TOKENS) continue;
    yield { from, end, close };
    from = end;
  }
}
