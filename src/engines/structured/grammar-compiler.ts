// Texts held to a grammar: which tokens may come next, after those that came.
import { LockstepError } from '../../errors.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { GrammarMatcher } from '../logits-processor.ts';
import { CompiledGrammar, type State } from './grammar.ts';
import { anyObject } from './json.ts';
import { SchemaReader } from './schema.ts';
import { VocabularyTree } from './vocabulary.ts';

/** Grammars that are kept, the latest used: clients ask for the same ones again. */
const KEPT = 32;
/** States of the machines that are kept; the latest one may have more until its texts have ended. */
const MOST_STATES = 100_000;
/** Bytes of the masks that are kept, of all grammars. */
const MASK_BYTES = 64 * 2 ** 20;

/** What a request asks a text to be, as OpenAI's API has it. */
export interface ResponseFormat {
  type: string;
  json_schema?: { schema: unknown };
}

/** Compiles and caches grammars for the vocabulary of one tokenizer. */
export class GrammarCompiler {
  readonly #tokenizer: Tokenizer;
  readonly #ends: readonly number[];
  #tree: VocabularyTree | null = null;
  readonly #compiled = new Map<string, CompiledGrammar>();
  /** Ids that may come, by state; the latest used last. */
  readonly #masks = new Map<State, Uint32Array | null>();

  /** @param ends ids that end a text */
  constructor(tokenizer: Tokenizer, ends: readonly number[]) {
    this.#tokenizer = tokenizer;
    this.#ends = ends;
  }

  /**
   * Make ready what a response format needs; the function that is returned is cheap.
   *
   * @throws LS_FORM_SCHEMA for schemas that are not supported; LS_FORM_ENDS where no token could end the text
   */
  compile(format: ResponseFormat): () => GrammarMatcher {
    if (this.#ends.length === 0) {
      throw new LockstepError(
        'LS_FORM_ENDS',
        'expected a token that ends a text, got none in the contract',
        {
          fix: 'Attach again with a tokenizer that names its end token.',
        },
      );
    }
    const key = JSON.stringify(format);
    const grammar = this.#compiled.get(key) ?? compile(format);
    this.#compiled.delete(key);
    let states = grammar.size;
    for (const { size } of this.#compiled.values()) states += size;
    for (const [oldest, { size }] of this.#compiled) {
      if (this.#compiled.size < KEPT && states <= MOST_STATES) break;
      this.#compiled.delete(oldest);
      states -= size;
    }
    if (states <= MOST_STATES) this.#compiled.set(key, grammar);
    this.#tree ??= new VocabularyTree(this.#tokenizer, this.#ends);
    const tree = this.#tree;
    const allowed = (state: State) => this.#allowed(grammar, tree, state);
    return () => new ByteMatcher(grammar, allowed, this.#tokenizer, this.#ends);
  }

  #allowed(grammar: CompiledGrammar, tree: VocabularyTree, exact: State): Uint32Array | null {
    const state = grammar.shortened(exact, tree.longest);
    const known = this.#masks.get(state);
    const mask = known === undefined ? tree.allowed(grammar, state) : known;
    this.#masks.delete(state);
    this.#masks.set(state, mask);
    for (const oldest of this.#masks.keys()) {
      if (this.#masks.size * (tree.size / 8) <= MASK_BYTES) break;
      this.#masks.delete(oldest);
    }
    return mask;
  }
}

function compile(format: ResponseFormat): CompiledGrammar {
  return new CompiledGrammar(
    format.type === 'json_object'
      ? anyObject
      : new SchemaReader(format.json_schema?.schema).readWhole(),
  );
}

class ByteMatcher implements GrammarMatcher {
  readonly #grammar: CompiledGrammar;
  readonly #allowed: (state: State) => Uint32Array | null;
  readonly #tokenizer: Tokenizer;
  readonly #ends: readonly number[];
  #state: State;

  constructor(
    grammar: CompiledGrammar,
    allowed: (state: State) => Uint32Array | null,
    tokenizer: Tokenizer,
    ends: readonly number[],
  ) {
    this.#grammar = grammar;
    this.#allowed = allowed;
    this.#tokenizer = tokenizer;
    this.#ends = ends;
    this.#state = grammar.start;
  }

  mask(logits: Float32Array): void {
    const allowed = this.#allowed(this.#state);
    if (allowed === null && !this.#state.ends) {
      throw new LockstepError(
        'LS_FORM_TOKENS',
        'expected a token for the next part of the JSON text, got none in the tokenizer',
        { fix: 'Use plain ASCII in names and values of the schema.' },
      );
    }
    const ends = this.#state.ends ? this.#ends.map((id) => logits[id] as number) : null;
    const known = allowed === null ? 0 : Math.min(logits.length, allowed.length * 32);
    for (let id = 0; id < known; id++) {
      const bit = ((allowed as Uint32Array)[id >> 5] as number) & (1 << (id & 31));
      if (bit === 0) logits[id] = Number.NEGATIVE_INFINITY;
    }
    logits.fill(Number.NEGATIVE_INFINITY, known);
    ends?.forEach((value, i) => {
      logits[this.#ends[i] as number] = value;
    });
  }

  accept(id: number): void {
    if (this.#ends.includes(id)) return;
    for (const byte of this.#tokenizer.bytes(id)) {
      const next = this.#grammar.step(this.#state, byte);
      if (next === null) throw new RangeError(`expected a token of the grammar, got ${id}`);
      this.#state = next;
    }
  }

  close(): void {}
}
