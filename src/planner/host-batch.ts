// Many sequences' tokens in cells of a fixed number, and their cuts out of them.
import type { Push } from './host.ts';

/** Tokens [from, to) of push number `index`. */
export interface Part extends Push {
  readonly index: number;
  readonly from: number;
  readonly to: number;
}

/** Split pushes into batches of at most `cells` cells; a part takes two cells and one a token. */
export function* batches(pushes: readonly Push[], cells: number): Generator<Part[]> {
  let batch: Part[] = [];
  let free = cells;
  for (const [index, { handle, tokens }] of pushes.entries()) {
    for (let from = 0; from < tokens.length; ) {
      if (free < 3) {
        yield batch;
        batch = [];
        free = cells;
      }
      const to = Math.min(tokens.length, from + free - 2);
      batch.push({ handle, tokens, index, from, to });
      free -= 2 + to - from;
      from = to;
    }
  }
  if (batch.length > 0) yield batch;
}

/** Read `count, cut, ...` of every part. */
export function unpack(cells: Int32Array, parts: readonly Part[], cuts: number[][]): void {
  let at = 0;
  for (const { index } of parts) {
    const end = at + 1 + (cells[at] as number);
    for (let i = at + 1; i < end; i++) (cuts[index] as number[]).push(cells[i] as number);
    at = end;
  }
}
