// The `lockstep` field of traced streams: where the sequence is, what was cut, kept and retrieved.
import type { Retrieved, SessionMemory } from '../../engines/engine.ts';
import type { ShownToken } from '../prompt/tokens.ts';

export interface Trace {
  /** Tokens of the sequence that have run. */
  position: number;
  /** Those that have run since the last chunk. */
  tokens: ShownToken[];
  /** The open segment: its index, first token, and tokens that have run. */
  segment: { index: number; start: number; length: number };
  /** The boundary e_i that these tokens closed, or null. */
  cut: number | null;
  /** What the next segment's long heads see: half-open spans of token positions. */
  retrieved: RetrievedSpans[] | null;
  /** Bytes held after these tokens. */
  memory: SessionMemory | null;
}

export interface RetrievedSpans {
  layer: number;
  heads: { head: number; spans: [number, number][] }[];
}

/**
 * Pool positions as spans of token positions.
 *
 * @param sinks A: the pool's first row is token A
 * @param long H_long of every layer
 */
export function spansOf(
  retrieved: readonly Retrieved[],
  sinks: number,
  long: readonly (readonly number[])[],
): RetrievedSpans[] {
  return retrieved.map(({ layer, positions }) => ({
    layer,
    heads: positions.map((rows, i) => {
      const spans: [number, number][] = [];
      for (const row of rows) {
        const token = row + sinks;
        const last = spans[spans.length - 1];
        if (last !== undefined && last[1] === token) last[1] = token + 1;
        else spans.push([token, token + 1]);
      }
      return { head: long[layer]?.[i] ?? i, spans };
    }),
  }));
}
