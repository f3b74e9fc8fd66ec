// The bytes of a vocabulary as a tree, so that what tokens have in common is read once.
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { CompiledGrammar, State } from './grammar.ts';

/** Tokens by their bytes, as nodes in depth-first order. Special tokens, ends and empty ones are not in it. */
export class VocabularyTree {
  /** Ids of the vocabulary. */
  readonly size: number;
  /** Bytes of the longest token. */
  readonly longest: number;
  /** The byte of a node, and how many stand above it. */
  readonly #byte: Uint8Array;
  readonly #depth: Uint16Array;
  /** The first node that is not below a node. */
  readonly #beyond: Int32Array;
  /** The tokens of node i: `#ids` from `#first[i]` to `#first[i + 1]`. */
  readonly #first: Int32Array;
  readonly #ids: Int32Array;

  /** @param ends ids that end a text, whatever their bytes */
  constructor(tokenizer: Tokenizer, ends: readonly number[]) {
    const { vocabulary } = tokenizer;
    this.size = vocabulary.size;
    const tokens: { id: number; bytes: Uint8Array }[] = [];
    for (let id = 0; id < vocabulary.size; id++) {
      if (vocabulary.special(id) || ends.includes(id)) continue;
      const bytes = tokenizer.bytes(id);
      if (bytes.length > 0) tokens.push({ id, bytes });
    }
    tokens.sort((a, b) => Buffer.compare(a.bytes, b.bytes) || a.id - b.id);
    this.#ids = Int32Array.from(tokens, ({ id }) => id);
    this.longest = tokens.reduce((most, { bytes }) => Math.max(most, bytes.length), 0);

    const byte: number[] = [];
    const depth: number[] = [];
    const beyond: number[] = [];
    const first: number[] = [];
    /** Nodes from the root to the latest token. */
    const open: number[] = [];
    let last: Uint8Array = new Uint8Array(0);
    const close = (length: number) => {
      while (open.length > length) beyond[open.pop() as number] = byte.length;
    };
    tokens.forEach(({ bytes }, i) => {
      close(common(last, bytes));
      for (let at = open.length; at < bytes.length; at++) {
        depth.push(at);
        first.push(i);
        beyond.push(0);
        open.push(byte.push(bytes[at] as number) - 1);
      }
      last = bytes;
    });
    close(0);
    this.#byte = Uint8Array.from(byte);
    this.#depth = Uint16Array.from(depth);
    this.#beyond = Int32Array.from(beyond);
    this.#first = Int32Array.from([...first, tokens.length]);
  }

  /** The ids whose bytes may come next: bit `id % 32` of word `id >> 5`; null where there are none. */
  allowed(grammar: CompiledGrammar, start: State): Uint32Array | null {
    const found = new Uint32Array((this.size + 31) >> 5);
    let any = false;
    const states: State[] = [start];
    for (let node = 0; node < this.#byte.length; ) {
      const depth = this.#depth[node] as number;
      const after = grammar.step(states[depth] as State, this.#byte[node] as number);
      if (after === null) {
        node = this.#beyond[node] as number;
        continue;
      }
      states[depth + 1] = after;
      const next = this.#first[node + 1] as number;
      for (let i = this.#first[node] as number; i < next; i++) {
        const id = this.#ids[i] as number;
        found[id >> 5] = (found[id >> 5] as number) | (1 << (id & 31));
        any = true;
      }
      node += 1;
    }
    return any ? found : null;
  }
}

/** How many bytes two tokens begin with alike. */
function common(a: Uint8Array, b: Uint8Array): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length += 1;
  return length;
}
