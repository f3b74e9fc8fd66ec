// definePolicy: from a definition to a factory of frozen policy values.

import { LockstepError } from '../errors.ts';
import type { Json } from '../json.ts';
import { checkParams, noInteger, type Refuse, refusal } from './params.ts';
import { ORIGIN, type Origin, type Params, type Policy, seal, type Vocabulary } from './policy.ts';

/** `512` as a default stands for any integer, `[0]` for a list of integers. */
export type Widen<T> = T extends number
  ? number
  : T extends string
    ? string
    : T extends boolean
      ? boolean
      : T extends readonly (infer Item)[]
        ? readonly Widen<Item>[]
        : { readonly [K in keyof T]: Widen<T[K]> };

/** What `push` and `cut` may read beside the state. */
export interface PolicyContext<P, Tables> {
  readonly params: P;
  readonly tables: Tables;
}

/**
 * A policy in its author's words. Functions may use their arguments and constants of their module;
 * what they close over at run time is not shipped (LS_POLICY_CLOSURE).
 */
export interface PolicyDefinition<P extends Params, State extends object, Tables extends Json> {
  /** Letters, digits and `-`; the module must export the factory (or a policy made with it). */
  name: string;
  /** Defaults: integers, strings, booleans, lists of them. They also state each parameter's type. */
  params?: P;
  /** `import.meta.url` of the defining module. Filled in where a lockstep.config.ts imports it. */
  module?: string;
  /** Refuse parameters that have the right types but no meaning. */
  check?(params: NoInfer<Widen<P>>, refuse: Refuse): void;
  /** Turn the vocabulary into tables: the only place where text may be read. */
  prepare?(vocabulary: Vocabulary, params: NoInfer<Widen<P>>): Tables;
  /** JSON state of a new sequence. Default `{}`. */
  start?(params: NoInfer<Widen<P>>): State;
  /** See one token; true asks for a cut after it. */
  push(
    state: NoInfer<State>,
    token: number,
    context: PolicyContext<NoInfer<Widen<P>>, NoInfer<Tables>>,
  ): boolean;
  /** The planner cut after the token just pushed. */
  cut?(state: NoInfer<State>, context: PolicyContext<NoInfer<Widen<P>>, NoInfer<Tables>>): void;
}

/** Makes policies of one kind: `sentences()`, `fixed({ size: 512 })`. */
export interface PolicyFactory<P> {
  (params?: Partial<P>): Policy;
  readonly policyName: string;
}

/**
 * Define a boundary policy.
 *
 * @returns a factory: given parameters (checked: LS_POLICY_PARAMS), it makes a frozen policy
 * @throws LS_POLICY_DEFINITION for a definition without a usable name or `push`
 */
export function definePolicy<
  const P extends Params = Record<never, never>,
  State extends object = Record<string, never>,
  Tables extends Json = null,
>(definition: PolicyDefinition<P, State, Tables>): PolicyFactory<Widen<P>> {
  checkDefinition(definition);
  const { name, check } = definition;
  const defaults = definition.params ?? {};

  const revive = (params: Params): Policy => {
    const own = params as Widen<P>;
    // Tables are the same object token after token.
    let context: PolicyContext<Widen<P>, Tables> | undefined;
    const contextOf = (tables: Json): PolicyContext<Widen<P>, Tables> => {
      if (context?.tables !== tables) context = { params: own, tables: tables as Tables };
      return context;
    };
    return seal(
      {
        kind: 'policy',
        name,
        params,
        prepare: (vocabulary) => definition.prepare?.(vocabulary, own) ?? null,
        start: () => (definition.start === undefined ? {} : definition.start(own)),
        push: (state, token, tables) => definition.push(state as State, token, contextOf(tables)),
        cut: (state, tables) => definition.cut?.(state as State, contextOf(tables)),
      },
      origin,
    );
  };
  const origin: Origin = { name, module: definition.module, policies: [], revive };

  const factory = (given: Partial<Widen<P>> = {}): Policy => {
    const params = checkParams(name, defaults, given);
    check?.(params as Widen<P>, refusal(name, params));
    return revive(params);
  };
  Object.defineProperty(factory, ORIGIN, { value: origin });
  return Object.freeze(Object.assign(factory, { policyName: name }));
}

function checkDefinition(definition: { name: unknown; push: unknown; params?: Params }): void {
  const { name, push, params = {} } = definition;
  const fix = 'See docs/policies.md for a policy in 20 lines.';
  if (typeof name !== 'string' || !/^[A-Za-z][A-Za-z0-9-]*$/.test(name)) {
    throw new LockstepError(
      'LS_POLICY_DEFINITION',
      `definePolicy: expected name to be a letter and then letters, digits or '-', got ${JSON.stringify(name)}`,
      { fix, field: 'name' },
    );
  }
  if (typeof push !== 'function') {
    throw new LockstepError(
      'LS_POLICY_DEFINITION',
      `definePolicy: expected push of ${name} to be a function, got ${typeof push}`,
      { fix, field: 'push' },
    );
  }
  const fault = noInteger(params, 'params');
  if (fault === undefined) return;
  throw new LockstepError(
    'LS_POLICY_DEFINITION',
    `definePolicy: expected defaults of ${name} to be integers, strings, booleans and lists of them, got ${fault.got} at ${fault.path}`,
    { fix: 'Give a fraction as two integers, such as { tenths: 5 }.', field: fault.path },
  );
}
