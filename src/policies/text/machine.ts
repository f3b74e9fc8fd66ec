// A finite machine over characters, numbered and minimised: what text policies are written as.

/** A machine over characters with structured states, as its author writes it. */
export interface TextMachine<S> {
  /** State at the beginning of a text and after a special token. */
  readonly start: S;
  /** Number of character classes. */
  readonly classes: number;
  /** Class of a character (a code point). */
  classify(character: string): number;
  step(state: S, characterClass: number): S;
  /** Whether a token that leaves the machine in this state asks for a cut. */
  asks(state: S): boolean;
  /** State after a cut was made in this state. Default: the same. */
  settle?(state: S): S;
  /** State in which the next token begins. Default: the same. */
  begin?(state: S): S;
}

/** The same machine with states 0..states-1; 0 is the start. */
export interface NumberedMachine {
  readonly states: number;
  readonly classes: number;
  /** [states x classes], row-major. */
  readonly next: Int32Array;
  readonly asks: boolean[];
  readonly settle: Int32Array;
  readonly begin: Int32Array;
}

/** Number the states reachable from the start and merge those that nothing can tell apart. */
export function numbered<S>(machine: TextMachine<S>): NumberedMachine {
  return minimised(explored(machine));
}

function explored<S>(machine: TextMachine<S>): NumberedMachine {
  const ids = new Map<string, number>();
  const found: S[] = [];
  const id = (state: S): number => {
    const key = JSON.stringify(state);
    const known = ids.get(key);
    if (known !== undefined) return known;
    ids.set(key, found.length);
    found.push(state);
    return found.length - 1;
  };
  id(machine.start);
  for (let i = 0; i < found.length; i++) {
    const state = found[i] as S;
    for (let c = 0; c < machine.classes; c++) id(machine.step(state, c));
    id(machine.settle?.(state) ?? state);
    id(machine.begin?.(state) ?? state);
  }
  // The start first, the others sorted: like states stand together, so that maps compress.
  const [start, ...others] = [...ids.keys()];
  const order = [start as string, ...others.sort()].map((key) => ids.get(key) as number);
  const place: number[] = [];
  order.forEach((old, i) => {
    place[old] = i;
  });
  const numberOf = (state: S): number => place[id(state)] as number;
  const next: number[] = [];
  const settle: number[] = [];
  const begin: number[] = [];
  const asks: boolean[] = [];
  for (const old of order) {
    const state = found[old] as S;
    for (let c = 0; c < machine.classes; c++) next.push(numberOf(machine.step(state, c)));
    settle.push(numberOf(machine.settle?.(state) ?? state));
    begin.push(numberOf(machine.begin?.(state) ?? state));
    asks.push(machine.asks(state));
  }
  return {
    states: found.length,
    classes: machine.classes,
    next: Int32Array.from(next),
    settle: Int32Array.from(settle),
    begin: Int32Array.from(begin),
    asks,
  };
}

/** Moore's partition refinement; blocks are numbered by their first state, so 0 stays the start. */
function minimised(machine: NumberedMachine): NumberedMachine {
  const { states, classes } = machine;
  let block = machine.asks.map(Number);
  for (let count = 0; ; ) {
    const ids = new Map<string, number>();
    const refined: number[] = [];
    for (let s = 0; s < states; s++) {
      const key = [block[s], block[machine.settle[s] as number], block[machine.begin[s] as number]];
      for (let c = 0; c < classes; c++) key.push(block[machine.next[s * classes + c] as number]);
      const text = key.join();
      if (!ids.has(text)) ids.set(text, ids.size);
      refined.push(ids.get(text) as number);
    }
    block = refined;
    if (ids.size === count) break;
    count = ids.size;
  }
  const first: number[] = [];
  block.forEach((b, s) => {
    if (first[b] === undefined) first[b] = s;
  });
  const to = (s: number | undefined): number => block[s as number] as number;
  return {
    states: first.length,
    classes,
    next: Int32Array.from(
      first.flatMap((s) =>
        Array.from({ length: classes }, (_, c) => to(machine.next[s * classes + c])),
      ),
    ),
    settle: Int32Array.from(first, (s) => to(machine.settle[s])),
    begin: Int32Array.from(first, (s) => to(machine.begin[s])),
    asks: first.map((s) => machine.asks[s] as boolean),
  };
}
