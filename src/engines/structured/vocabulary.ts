// The bytes of a vocabulary as a tree, so that what tokens have in common is read once.
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { Grammar, State } from './grammar.ts';

/** Tokens by their bytes. Special tokens and empty ones are not in it. */
export class VocabularyTree {
  readonly #byte: number[] = [0];
  readonly #child: number[] = [-1];
  readonly #sibling: number[] = [-1];
  /** First token that ends at a node, and by token the next one with the same bytes; -1: none. */
  readonly #token: number[] = [-1];
  readonly #next: Int32Array;

  constructor(tokenizer: Tokenizer) {
    const { vocabulary } = tokenizer;
    this.#next = new Int32Array(vocabulary.size).fill(-1);
    for (let id = 0; id < vocabulary.size; id++) {
      if (vocabulary.special(id)) continue;
      const text = tokenizer.bytes(id);
      if (text.length === 0) continue;
      let node = 0;
      for (const byte of text) node = this.#descend(node, byte);
      this.#next[id] = this.#token[node] as number;
      this.#token[node] = id;
    }
  }

  /** Ids whose bytes may come next. */
  allowed(grammar: Grammar, state: State): Int32Array {
    const found: number[] = [];
    const open: { node: number; state: State }[] = [{ node: 0, state }];
    for (let top = open.pop(); top !== undefined; top = open.pop()) {
      for (let id = this.#token[top.node] as number; id >= 0; id = this.#next[id] as number) {
        found.push(id);
      }
      let child = this.#child[top.node] as number;
      for (; child >= 0; child = this.#sibling[child] as number) {
        const after = grammar.step(top.state, this.#byte[child] as number);
        if (after !== null) open.push({ node: child, state: after });
      }
    }
    return Int32Array.from(found);
  }

  #descend(node: number, byte: number): number {
    let child = this.#child[node] as number;
    while (child >= 0 && this.#byte[child] !== byte) child = this.#sibling[child] as number;
    if (child >= 0) return child;
    child = this.#byte.push(byte) - 1;
    this.#child.push(-1);
    this.#token.push(-1);
    this.#sibling.push(this.#child[node] as number);
    this.#child[node] = child;
    return child;
  }
}
