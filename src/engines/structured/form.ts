// Texts held to a form: which tokens may come next, after those that came.
import { LockstepError } from '../../errors.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { TokenForm } from '../adjust.ts';
import { Grammar, type State } from './grammar.ts';
import { anyObject } from './json.ts';
import { SchemaReader } from './schema.ts';
import { VocabularyTree } from './vocabulary.ts';

/** Forms that are kept, the latest used: clients ask for the same ones again. */
const KEPT = 32;
/** States of a form's machine, beyond which it is made anew for the next text. */
const MOST_STATES = 20_000;

/** What a request asks a text to be, as OpenAI's API has it. */
export interface ResponseFormat {
  type: string;
  json_schema?: { schema: unknown };
}

interface Prepared {
  grammar: Grammar;
  /** Tokens that may come, by state. */
  allowed: WeakMap<State, Int32Array>;
}

/** Forms for the vocabulary of one tokenizer. */
export class Forms {
  readonly #tokenizer: Tokenizer;
  readonly #ends: readonly number[];
  #tree: VocabularyTree | null = null;
  readonly #prepared = new Map<string, Prepared>();

  /** @param ends ids that end a text */
  constructor(tokenizer: Tokenizer, ends: readonly number[]) {
    this.#tokenizer = tokenizer;
    this.#ends = ends;
  }

  /**
   * Make ready what a form needs; `begin` is cheap then.
   *
   * @throws LS_FORM_SCHEMA for schemas that are not supported; LS_FORM_ENDS where no token could end the text
   */
  prepare(format: ResponseFormat): () => TokenForm {
    if (this.#ends.length === 0) {
      throw new LockstepError(
        'LS_FORM_ENDS',
        'expected a token that ends a text, got none in the contract',
        {
          mend: 'Attach again with a tokenizer that names its end token.',
        },
      );
    }
    const key = JSON.stringify(format);
    const known = this.#prepared.get(key);
    this.#prepared.delete(key);
    const prepared = known && known.grammar.size < MOST_STATES ? known : prepare(format);
    this.#prepared.set(key, prepared);
    for (const oldest of this.#prepared.keys()) {
      if (this.#prepared.size <= KEPT) break;
      this.#prepared.delete(oldest);
    }
    this.#tree ??= new VocabularyTree(this.#tokenizer);
    const tree = this.#tree;
    return () => new HeldText(prepared, tree, this.#tokenizer, this.#ends);
  }
}

function prepare(format: ResponseFormat): Prepared {
  const node =
    format.type === 'json_object' ? anyObject : new SchemaReader(format.json_schema?.schema).read();
  return { grammar: new Grammar(node), allowed: new WeakMap() };
}

class HeldText implements TokenForm {
  readonly #prepared: Prepared;
  readonly #tree: VocabularyTree;
  readonly #tokenizer: Tokenizer;
  readonly #ends: readonly number[];
  #state: State;

  constructor(
    prepared: Prepared,
    tree: VocabularyTree,
    tokenizer: Tokenizer,
    ends: readonly number[],
  ) {
    this.#prepared = prepared;
    this.#tree = tree;
    this.#tokenizer = tokenizer;
    this.#ends = ends;
    this.#state = prepared.grammar.start;
  }

  mask(logits: Float32Array): void {
    const allowed = this.#allowed();
    const values = Float32Array.from(allowed, (id) => logits[id] as number);
    const ends = this.#state.ends ? this.#ends.map((id) => logits[id] as number) : null;
    logits.fill(Number.NEGATIVE_INFINITY);
    allowed.forEach((id, i) => {
      logits[id] = values[i] as number;
    });
    ends?.forEach((value, i) => {
      logits[this.#ends[i] as number] = value;
    });
  }

  take(id: number): void {
    if (this.#ends.includes(id)) return;
    const { grammar } = this.#prepared;
    for (const byte of this.#tokenizer.bytes(id)) {
      const next = grammar.step(this.#state, byte);
      if (next === null) throw new RangeError(`expected a token of the form, got ${id}`);
      this.#state = next;
    }
  }

  close(): void {}

  #allowed(): Int32Array {
    const { grammar, allowed } = this.#prepared;
    let ids = allowed.get(this.#state);
    if (ids === undefined) {
      ids = this.#tree.allowed(grammar, this.#state);
      allowed.set(this.#state, ids);
    }
    if (ids.length > 0 || this.#state.ends) return ids;
    throw new LockstepError(
      'LS_FORM_TOKENS',
      'expected tokens for every text of the JSON schema, got none for what has to come next',
      { mend: 'Use plain ASCII in names and values of the schema.' },
    );
  }
}
