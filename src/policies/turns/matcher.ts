// Finding sequences of token ids in a stream of them (Aho and Corasick, 1975).

/** JSON tables. A node stands for a beginning of a sequence that was just read; 0 for none. */
export type SequenceTables = {
  /** Every id of the sequences, ascending. All others lead to node 0. */
  readonly ids: readonly number[];
  /** [nodes x ids], row-major: the next node. */
  readonly next: readonly number[];
  /** For each list of sequences, the nodes in which one of them is complete, ascending. */
  readonly complete: readonly (readonly number[])[];
};

/** @param lists lists of sequences; a sequence has at least one id */
export function compileSequences(
  lists: readonly (readonly (readonly number[])[])[],
): SequenceTables {
  const sequences = lists.flat();
  const nodes: number[][] = [[]];
  const known = new Map<string, number>([['', 0]]);
  for (const sequence of sequences) {
    for (let length = 1; length <= sequence.length; length++) {
      const prefix = sequence.slice(0, length);
      if (known.has(prefix.join())) continue;
      known.set(prefix.join(), nodes.length);
      nodes.push(prefix);
    }
  }
  const ids = [...new Set(sequences.flat())].sort((a, b) => a - b);
  const next = nodes.flatMap((node) =>
    ids.map((id) => {
      const read = [...node, id];
      while (!known.has(read.join())) read.shift();
      return known.get(read.join()) as number;
    }),
  );
  const endsWith = (node: readonly number[], sequence: readonly number[]): boolean =>
    sequence.length <= node.length && sequence.join() === node.slice(-sequence.length).join();
  const complete = lists.map((list) =>
    nodes.flatMap((node, at) => (list.some((one) => endsWith(node, one)) ? [at] : [])),
  );
  return { ids, next, complete };
}

/** The node after `token` was read in node `at`. */
export function readSequence(tables: SequenceTables, at: number, token: number): number {
  const column = tables.ids.indexOf(token);
  return column === -1 ? 0 : (tables.next[at * tables.ids.length + column] as number);
}
