// Tokens of many sequences, in batches that cross into the policy's engine in one call.

/** Cells before the tokens: status, handle, index and token at work. */
export const HEADER = 4;
/** Tokens and their handles that cross in one call. */
export const BATCH_CELLS = 1 << 14;

/** A token list of one sequence. */
export interface Push {
  readonly handle: number;
  readonly tokens: ArrayLike<number>;
}

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

/** Write a batch for the runtime: `handle, count, token, ...` of every part behind the header. */
export function writeParts(cells: Int32Array, parts: readonly Part[]): void {
  let length = HEADER;
  for (const { handle, tokens, from, to } of parts) {
    cells[length++] = handle;
    cells[length++] = to - from;
    for (let i = from; i < to; i++) {
      const token = tokens[i] as number;
      // What does not fit a cell becomes an id that the planner refuses.
      cells[length++] = (token | 0) === token ? token : -1;
    }
  }
  cells[0] = length - HEADER;
}
