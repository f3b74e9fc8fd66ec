// Tokens of many sequences, in batches that cross into the policy's engine in one call.

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
