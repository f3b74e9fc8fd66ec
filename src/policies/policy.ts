// What a boundary policy is: a frozen value and pure functions of token ids (SEMANTICS.md 5).
import type { Json } from '../json.ts';

/** A tokenizer's vocabulary as `prepare` sees it, once, when a contract is made. */
export interface Vocabulary {
  /** Number of token ids that the model knows. */
  readonly size: number;
  /** Text of one token; characters whose bytes span tokens appear as U+FFFD. */
  text(id: number): string;
  /** Whether the id is a special token (beginning of sequence, chat markers, ...). */
  special(id: number): boolean;
  /** Ids for which `test` holds, ascending. */
  select(test: (text: string, id: number) => boolean): number[];
  /**
   * What the checkpoint's chat template writes around an answer. Present when a contract is made.
   *
   * @throws LS_POLICY_TURNS where there is no template, or none that can be used; LS_TEMPLATE_*
   */
  chat?(): ChatMarks;
}

/** Sequences of token ids that a chat template always writes; none begins with another of its list. */
export interface ChatMarks {
  /** Each opens an assistant's answer: the ids of `<|im_start|>assistant\n`. At least one. */
  readonly answer: readonly (readonly number[])[];
  /** Each ends an answer: the ids of `<|im_end|>\n`. None where it cannot be told from text. */
  readonly ends: readonly (readonly number[])[];
}

/** Name and parameters: all that is needed to find a policy again in its module. */
export interface PolicyTree {
  readonly name: string;
  readonly params: Readonly<Record<string, Json>>;
}

/** Parameters are JSON without floating-point numbers. */
export type Params = Readonly<Record<string, Json>>;

/**
 * A boundary policy. `JSON.stringify` prints it as `{kind, name, params}`.
 *
 * `push` sees every token of a sequence once, position 0 included, and asks for a cut *after* that
 * token by returning true. The planner enforces `min`, `max` and `align` and tells the policy of
 * each actual cut through `cut`. State is a JSON object; it persists through the whole sequence.
 */
export interface Policy extends PolicyTree {
  readonly kind: 'policy';
  /** Tables for a vocabulary: integers, strings, booleans and lists of them. */
  prepare(vocabulary: Vocabulary): Json;
  /** State before position 0. */
  start(): unknown;
  push(state: unknown, token: number, tables: Json): boolean;
  /** The planner cut after the token just pushed. */
  cut(state: unknown, tables: Json): void;
}

/** Where a policy comes from: what the bundler imports to make it again. */
export interface Origin {
  readonly name: string;
  /** URL of the module that exports it; undefined where definePolicy was not told. */
  readonly module: string | undefined;
  /** Policies that a combinator holds, in the order of `params.policies`. */
  readonly policies: readonly Policy[];
  /** Make the policy again from checked parameters, without checking them. */
  revive(params: Params, policies: readonly Policy[]): Policy;
}

/**
 * Key of a policy's or factory's origin. Registered, as a config file is bundled with a copy of
 * this package of its own.
 */
export const ORIGIN: unique symbol = Symbol.for('lockstep.policy.origin') as never;

/** Origin of a policy or of a policy factory; undefined for anything else. */
export function originOf(value: unknown): Origin | undefined {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null)
    return undefined;
  return (value as { [ORIGIN]?: Origin })[ORIGIN];
}

/** Freeze a policy and put its origin where printing does not show it. */
export function seal(policy: Policy, origin: Origin): Policy {
  Object.defineProperty(policy, ORIGIN, { value: origin });
  return Object.freeze(policy);
}

const sets = new WeakMap<readonly number[], Set<number>>();

/**
 * Whether a token stands in a list of a policy's tables; constant time from the second call on.
 *
 * @param list token ids, as `vocabulary.select` gives them
 */
export function has(list: readonly number[], token: number): boolean {
  let set = sets.get(list);
  if (set === undefined) {
    set = new Set(list);
    sets.set(list, set);
  }
  return set.has(token);
}

const derivations = new WeakMap<object, Map<unknown, unknown>>();

/**
 * What follows from a policy's tables, computed once: `derived(tables, unpacked)`.
 *
 * The place for what would else be a cache in a variable of the module (LS_POLICY_MEMORY). The policy's
 * runtime freezes the result.
 *
 * @param source the tables, or an object of them
 * @param compute a function of the module; it may depend on `source` alone
 */
export function derived<Source extends object, Value>(
  source: Source,
  compute: (source: Source) => Value,
): Value {
  let known = derivations.get(source);
  if (known === undefined) {
    known = new Map();
    derivations.set(source, known);
  }
  if (!known.has(compute)) known.set(compute, compute(source));
  return known.get(compute) as Value;
}
