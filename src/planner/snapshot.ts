// What the host reads of a snapshot: where its sequence was.
import { LockstepError } from '../errors.ts';

/**
 * Position of the sequence, and start of its open segment.
 *
 * @throws LS_PLAN_SNAPSHOT where the text is no snapshot
 */
export function placeIn(snapshot: string, max: number): { position: number; start: number } {
  try {
    const { position, length } = JSON.parse(snapshot) as { position: number; length: number };
    if (Number.isSafeInteger(position) && length >= 0 && length < max && length <= position) {
      return { position, start: position - length };
    }
  } catch {
    // Reported below.
  }
  throw new LockstepError(
    'LS_PLAN_SNAPSHOT',
    `expected a snapshot of a segmenter of this contract, got ${snapshot.slice(0, 60)}`,
    { fix: 'Give the text that snapshot() returned under the same contract.' },
  );
}
