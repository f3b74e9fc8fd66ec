// From a machine over characters to tables over tokens, so that `push` is two look-ups.
//
// Reading a token takes the machine from every state to some state. Tokens that do the same to all
// states form a class, so a vocabulary becomes a few hundred maps. A policy so made depends on the
// characters alone: a marker counts the same whether it is one token or split over several.
import { LockstepError } from '../../errors.ts';
import { derived, type Vocabulary } from '../policy.ts';
import { type NumberedMachine, numbered, type TextMachine } from './machine.ts';

/** JSON tables of a text policy. State 0 is the start. */
export type TextTables = {
  readonly states: number;
  /** States in which a token that ends there asks for a cut, ascending. */
  readonly asks: readonly number[];
  /** Per state, the state after a cut. */
  readonly settle: readonly number[];
  /** Per class, the map from state to state: runs of equal targets as (target, length). */
  readonly maps: readonly (readonly number[])[];
  /** Per class but class 0 (all other tokens): its ids as first id, then differences. */
  readonly tokens: readonly (readonly number[])[];
};

/** State of a text policy. */
export interface TextState {
  at: number;
}

/** What a character of a string can number. */
const most = 1 << 16;

/**
 * Compile a machine for a vocabulary. Special tokens take it back to its start.
 *
 * @throws LS_POLICY_TABLES
 */
export function compileText<S>(vocabulary: Vocabulary, machine: TextMachine<S>): TextTables {
  const table = numbered(machine);
  const maps = new Maps(table);
  const members = new Map<number, number[]>();
  const classes = new Map<string, number>();
  for (let id = 0; id < vocabulary.size; id++) {
    let map = vocabulary.special(id) ? maps.restart : maps.begin;
    for (const character of vocabulary.special(id) ? '' : vocabulary.text(id)) {
      let read = classes.get(character);
      if (read === undefined) {
        read = machine.classify(character);
        classes.set(character, read);
      }
      map = maps.reading(map, read);
    }
    const list = members.get(map);
    if (list === undefined) members.set(map, [id]);
    else list.push(id);
  }
  if (Math.max(table.states, members.size) > most) {
    throw new LockstepError(
      'LS_POLICY_TABLES',
      `expected at most ${most} states and classes of tokens, got ${table.states} and ${members.size}`,
      { fix: 'Give the policy fewer or shorter strings, or a simpler pattern.' },
    );
  }
  const first = (ids: readonly number[]): number => ids[0] as number;
  const sorted = [...members].sort(([, a], [, b]) => b.length - a.length || first(a) - first(b));
  return {
    states: table.states,
    asks: table.asks.flatMap((asks, s) => (asks ? [s] : [])),
    settle: [...table.settle],
    maps: sorted.map(([map]) => runs(maps.targets(map))),
    tokens: sorted.slice(1).map(([, ids]) => differences(ids)),
  };
}

/** Maps from state to state, each known by a number; reading a character composes. */
class Maps {
  readonly begin: number;
  readonly restart: number;
  readonly #machine: NumberedMachine;
  readonly #ids = new Map<string, number>();
  readonly #maps: Int32Array[] = [];
  readonly #readings: number[] = [];

  constructor(machine: NumberedMachine) {
    this.#machine = machine;
    this.begin = this.#id(machine.begin);
    this.restart = this.#id(new Int32Array(machine.states));
  }

  targets(map: number): Int32Array {
    return this.#maps[map] as Int32Array;
  }

  /** The map that does `map` and then reads a character of class `read`. */
  reading(map: number, read: number): number {
    const { classes, next } = this.#machine;
    const key = map * classes + read;
    const known = this.#readings[key];
    if (known !== undefined) return known;
    const id = this.#id(this.targets(map).map((state) => next[state * classes + read] as number));
    this.#readings[key] = id;
    return id;
  }

  #id(map: Int32Array): number {
    const key = map.join();
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    this.#ids.set(key, this.#maps.length);
    this.#maps.push(map);
    return this.#maps.length - 1;
  }
}

function runs(targets: Int32Array): number[] {
  const out: number[] = [];
  for (const target of targets) {
    if (out.at(-2) === target) out[out.length - 1] = (out.at(-1) as number) + 1;
    else out.push(target, 1);
  }
  return out;
}

function differences(ids: readonly number[]): number[] {
  return ids.map((id, i) => id - (ids[i - 1] ?? 0));
}

/** `push` of every text policy. */
export function pushText(state: TextState, token: number, tables: TextTables): boolean {
  const { classOf, next, states, asks } = derived(tables, unpacked);
  const at = next.charCodeAt((classOf.charCodeAt(token) || 0) * states + state.at);
  state.at = at;
  return asks.charCodeAt(at) === 1;
}

/** `cut` of every text policy. */
export function cutText(state: TextState, tables: TextTables): void {
  state.at = tables.settle[state.at] as number;
}

/**
 * Numbers as the characters of strings. The runtime freezes each element of an array, and a vocabulary has tens of
 * thousands: a string is one value.
 */
interface Unpacked {
  readonly states: number;
  /** Class per token id; ids beyond its end are of class 0. */
  readonly classOf: string;
  /** [classes x states], row-major. */
  readonly next: string;
  /** 1 where the state asks for a cut. */
  readonly asks: string;
}

function unpacked({ states, maps, tokens, asks: asking }: TextTables): Unpacked {
  const next: number[] = [];
  for (const map of maps) {
    for (let i = 0; i < map.length; i += 2) {
      for (let n = map[i + 1] as number; n > 0; n--) next.push(map[i] as number);
    }
  }
  const classOf: number[] = [];
  tokens.forEach((differences, i) => {
    let id = 0;
    for (const difference of differences) {
      id += difference;
      while (classOf.length < id) classOf.push(0);
      classOf[id] = i + 1;
    }
  });
  const asks = new Array<number>(states).fill(0);
  for (const state of asking) asks[state] = 1;
  return { states, classOf: packed(classOf), next: packed(next), asks: packed(asks) };
}

function packed(numbers: readonly number[]): string {
  return numbers.map((number) => String.fromCharCode(number)).join('');
}
