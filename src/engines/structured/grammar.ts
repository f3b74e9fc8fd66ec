// Texts of bytes that a grammar allows, read byte by byte: a pushdown machine whose states are made as they
// are reached, each once.

import { LockstepError } from '../../errors.ts';

/** A part of a grammar. Nodes are compared by identity: make each once. */
export type Node =
  | { kind: 'bytes'; set: ReadonlySet<number> }
  | { kind: 'literal'; bytes: Uint8Array; tail: Node | null }
  | { kind: 'sequence'; parts: readonly Node[] }
  | { kind: 'choice'; parts: readonly Node[] }
  | { kind: 'repeat'; node: Node; min: number; max: number; others: Map<string, Node> }
  | { kind: 'reference'; target: () => Node };

const utf8 = new TextEncoder();

/** Most alternatives that are open at one place of a text: each costs time at each token. */
export const MOST_ALTERNATIVES = 1000;
/** A class of bytes goes on with most tokens of a vocabulary, a literal with few: it counts as so many. */
const CLASS_WEIGHT = 8;

/** One byte of a range or several, as `[from, to]`. */
export function bytes(...ranges: readonly (readonly [from: number, to: number])[]): Node {
  const set = new Set<number>();
  for (const [from, to] of ranges) for (let byte = from; byte <= to; byte++) set.add(byte);
  return { kind: 'bytes', set };
}

export function literal(text: string): Node {
  return { kind: 'literal', bytes: utf8.encode(text), tail: null };
}

export function sequence(...parts: readonly Node[]): Node {
  return { kind: 'sequence', parts };
}

export function choice(...parts: readonly Node[]): Node {
  return { kind: 'choice', parts };
}

/** `node`, which is no empty text, `min` to `max` times. */
export function repeat(node: Node, min: number, max: number): Node {
  return counted(node, min, max, new Map());
}

export function optional(node: Node): Node {
  return choice(literal(''), node);
}

export function reference(target: () => Node): Node {
  return { kind: 'reference', target };
}

function counted(node: Node, min: number, max: number, others: Map<string, Node>): Node {
  const key = `${min},${max}`;
  const known = others.get(key);
  if (known !== undefined) return known;
  const made: Node = { kind: 'repeat', node, min, max, others };
  others.set(key, made);
  return made;
}

/** The same for the next `length` bytes: each turn takes one at least. */
function cut(node: Node, length: number): Node {
  if (node.kind !== 'repeat') return node;
  const { node: part, min, max, others } = node;
  return counted(part, Math.min(min, length + 1), max > length ? Infinity : max, others);
}

/** What is still to come: a node, then the rest. The empty one has no node. */
interface Stack {
  readonly id: number;
  readonly node: Node | null;
  readonly rest: Stack | null;
  readonly longer: Map<Node, Stack>;
  /** The same with counts cut to a length (`CompiledGrammar.shortened`), once it was asked for. */
  short?: Stack;
}

/** A node, or nothing, and what comes behind it. */
type Opening = [node: Node | null, rest: Stack];

/** What may come next, and whether the text may end. */
export interface State {
  readonly stacks: readonly Stack[];
  readonly ends: boolean;
  /** By byte; undefined: not asked yet, null: it may not come. */
  readonly next: (State | null | undefined)[];
  short?: State;
}

/** The pushdown machine of one grammar. */
export class CompiledGrammar {
  readonly start: State;
  readonly #empty: Stack = { id: 0, node: null, rest: null, longer: new Map() };
  readonly #states = new Map<string, State>();
  #stacks = 1;

  constructor(grammar: Node) {
    this.start = this.#state(this.#opened([[grammar, this.#empty]]));
  }

  /** States made so far. */
  get size(): number {
    return this.#states.size;
  }

  /** After one more byte; null where it may not come. @throws LS_FORM_SIZE */
  step(state: State, byte: number): State | null {
    const known = state.next[byte];
    if (known !== undefined) return known;
    const taken: Opening[] = [];
    for (const { node, rest } of state.stacks) {
      if (node === null || rest === null) continue;
      if (node.kind === 'bytes' && node.set.has(byte)) taken.push([null, rest]);
      if (node.kind === 'literal' && node.bytes[0] === byte) {
        node.tail ??= { kind: 'literal', bytes: node.bytes.subarray(1), tail: null };
        taken.push([node.tail, rest]);
      }
    }
    const found = taken.length === 0 ? null : this.#state(this.#opened(taken));
    state.next[byte] = found;
    return found;
  }

  /**
   * A state that lets the same next `length` bytes through: counts that they cannot reach are cut, so that most
   * places of a long string or list share one. Always called with the same length.
   */
  shortened(state: State, length: number): State {
    state.short ??= this.#state(new Set(state.stacks.map((one) => this.#shorten(one, length))));
    return state.short;
  }

  #shorten(stack: Stack, length: number): Stack {
    const above: Stack[] = [];
    let here = stack;
    for (; here.short === undefined && here.rest !== null; here = here.rest) above.push(here);
    let short = here.short ?? here;
    for (const one of above.toReversed()) {
      short = this.#push(cut(one.node as Node, length), short);
      one.short = short;
    }
    return short;
  }

  /** The stacks that nodes before others stand for: each begins with a byte, or is empty. Empties the list. */
  #opened(open: Opening[]): ReadonlySet<Stack> {
    const into = new Set<Stack>();
    // No recursion: references may follow each other without end. What was met is not opened again, for
    // choices of choices would double with each.
    const met = new Set<Stack>();
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      const [here, behind] = next;
      if (here === null) {
        if (behind.node === null) into.add(behind);
        else open.push([behind.node, behind.rest as Stack]);
        continue;
      }
      const stack = here.kind === 'sequence' ? null : this.#push(here, behind);
      if (stack !== null) {
        if (met.has(stack)) continue;
        met.add(stack);
      }
      switch (here.kind) {
        case 'bytes':
          into.add(stack as Stack);
          break;
        case 'literal':
          if (here.bytes.length === 0) open.push([null, behind]);
          else into.add(stack as Stack);
          break;
        case 'sequence': {
          const [first = null, ...more] = here.parts;
          const later = more.reduceRight((below, part) => this.#push(part, below), behind);
          open.push([first, later]);
          break;
        }
        case 'choice':
          for (const part of here.parts) open.push([part, behind]);
          break;
        case 'repeat': {
          const { node: part, min, max, others } = here;
          if (min === 0) open.push([null, behind]);
          if (max === 0) break;
          const left = counted(part, Math.max(0, min - 1), max - 1, others);
          open.push([part, max === 1 ? behind : this.#push(left, behind)]);
          break;
        }
        case 'reference':
          open.push([here.target(), behind]);
      }
    }
    return into;
  }

  #push(node: Node, rest: Stack): Stack {
    let stack = rest.longer.get(node);
    if (stack === undefined) {
      stack = { id: this.#stacks++, node, rest, longer: new Map() };
      rest.longer.set(node, stack);
    }
    return stack;
  }

  #state(stacks: ReadonlySet<Stack>): State {
    let alternatives = 0;
    for (const { node } of stacks) alternatives += node?.kind === 'bytes' ? CLASS_WEIGHT : 1;
    if (alternatives > MOST_ALTERNATIVES) {
      throw new LockstepError(
        'LS_FORM_SIZE',
        `expected a JSON schema with at most ${MOST_ALTERNATIVES} alternatives at one place (about 15 strings), got ${alternatives}`,
        { fix: 'Use fewer values, schemas in `anyOf`, or optional properties.' },
      );
    }
    const list = [...stacks].sort((a, b) => a.id - b.id);
    const key = list.map(({ id }) => id).join();
    let state = this.#states.get(key);
    if (state === undefined) {
      state = { stacks: list, ends: list[0] === this.#empty, next: new Array(256) };
      this.#states.set(key, state);
    }
    return state;
  }
}
