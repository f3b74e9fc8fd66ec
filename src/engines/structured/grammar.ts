// Texts of bytes that a form allows, read byte by byte: a pushdown machine whose states are made as they
// are reached, each once.

import { LockstepError } from '../../errors.ts';

/** A part of a form. Nodes are compared by identity: make each once. */
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

/** What is still to come: a node, then the rest. The empty one has no node. */
interface Stack {
  readonly id: number;
  readonly node: Node | null;
  readonly rest: Stack | null;
  readonly longer: Map<Node, Stack>;
}

/** What may come next, and whether the text may end. */
export interface State {
  readonly stacks: readonly Stack[];
  readonly ends: boolean;
  /** By byte; undefined: not asked yet, null: it may not come. */
  readonly next: (State | null | undefined)[];
}

/** The machine of one form. */
export class Grammar {
  readonly start: State;
  readonly #empty: Stack = { id: 0, node: null, rest: null, longer: new Map() };
  readonly #states = new Map<string, State>();
  #stacks = 1;

  constructor(form: Node) {
    const stacks = new Set<Stack>();
    this.#open(form, this.#empty, stacks);
    this.start = this.#state(stacks);
  }

  /** States made so far. */
  get size(): number {
    return this.#states.size;
  }

  /** After one more byte; null where it may not come. @throws LS_FORM_SIZE */
  step(state: State, byte: number): State | null {
    const known = state.next[byte];
    if (known !== undefined) return known;
    const stacks = new Set<Stack>();
    for (const { node, rest } of state.stacks) {
      if (node === null || rest === null) continue;
      if (node.kind === 'bytes' && node.set.has(byte)) this.#open(null, rest, stacks);
      if (node.kind === 'literal' && node.bytes[0] === byte) {
        node.tail ??= { kind: 'literal', bytes: node.bytes.subarray(1), tail: null };
        this.#open(node.tail, rest, stacks);
      }
    }
    const found = stacks.size === 0 ? null : this.#state(stacks);
    state.next[byte] = found;
    return found;
  }

  /** Add the stacks that a node before `rest` stands for: each begins with a byte, or is empty. */
  #open(node: Node | null, rest: Stack, into: Set<Stack>): void {
    if (node === null) {
      if (rest.node === null) into.add(rest);
      else this.#open(rest.node, rest.rest as Stack, into);
      return;
    }
    switch (node.kind) {
      case 'bytes':
        into.add(this.#push(node, rest));
        return;
      case 'literal':
        if (node.bytes.length === 0) this.#open(null, rest, into);
        else into.add(this.#push(node, rest));
        return;
      case 'sequence': {
        const [first = null, ...more] = node.parts;
        const behind = more.reduceRight((stack, part) => this.#push(part, stack), rest);
        this.#open(first, behind, into);
        return;
      }
      case 'choice':
        for (const part of node.parts) this.#open(part, rest, into);
        return;
      case 'repeat': {
        const { node: part, min, max, others } = node;
        if (min === 0) this.#open(null, rest, into);
        if (max === 0) return;
        const left = counted(part, Math.max(0, min - 1), max - 1, others);
        this.#open(part, max === 1 ? rest : this.#push(left, rest), into);
        return;
      }
      case 'reference':
        this.#open(node.target(), rest, into);
    }
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
    if (stacks.size > MOST_ALTERNATIVES) {
      throw new LockstepError(
        'LS_FORM_SIZE',
        `expected a JSON schema with at most ${MOST_ALTERNATIVES} alternatives at one place, got ${stacks.size}`,
        { mend: 'Use fewer values, schemas in `anyOf`, or optional properties.' },
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
