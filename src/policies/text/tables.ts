// From a machine over characters to tables over tokens, so that `push` is two look-ups.
//
// Reading a token takes the machine from every state to some state. Tokens that do the same to all
// states form a class, so a vocabulary becomes a few hundred maps. A policy so made depends on the
// characters alone: a marker counts the same whether it is one token or split over several.
import type { Vocabulary } from '../policy.ts';
import { type NumberedMachine, numbered, type TextMachine } from './machine.ts';

/** JSON tables of a text policy. State 0 is the start. */
export type TextTables = {
  readonly states: number;
  /** States in which a token that ends there asks for a cut, ascending. */
  readonly asks: readonly number[];
  /** Per state, the state after a cut. */
  readonly settle: readonly number[];
  /** Per class, the map: most frequent target, then (state, target) of every other state. */
  readonly maps: readonly (readonly number[])[];
  /** Per class but class 0 (all other tokens): its ids as first id, then differences. */
  readonly tokens: readonly (readonly number[])[];
};

/** State of a text policy. */
export interface TextState {
  at: number;
}

/** Compile a machine for a vocabulary. Special tokens take it back to its start. */
export function compileText<S>(vocabulary: Vocabulary, machine: TextMachine<S>): TextTables {
  const table = numbered(machine);
  const classOf = characterClasses(machine);
  const members = new Map<string, number[]>();
  const byText = new Map<string, string>();
  for (let id = 0; id < vocabulary.size; id++) {
    // No character is read as NUL, so it can stand for "special".
    const read = vocabulary.special(id) ? '\0' : classOf(vocabulary.text(id));
    let key = byText.get(read);
    if (key === undefined) {
      key = JSON.stringify(sparse(read === '\0' ? restart(table) : mapOf(table, read)));
      byText.set(read, key);
    }
    const list = members.get(key);
    if (list === undefined) members.set(key, [id]);
    else list.push(id);
  }
  const classes = [...members].sort(([, a], [, b]) => b.length - a.length || first(a) - first(b));
  return {
    states: table.states,
    asks: table.asks.flatMap((asks, s) => (asks ? [s] : [])),
    settle: [...table.settle],
    maps: classes.map(([key]) => JSON.parse(key) as number[]),
    tokens: classes.slice(1).map(([, ids]) => ids.map((id, i) => (i === 0 ? id : id - (ids[i - 1] as number)))),
  };
}

/** `push` of every text policy. */
export function pushText(state: TextState, token: number, tables: TextTables): boolean {
  const { classOf, next, states, asks } = unpacked(tables);
  const at = next[(classOf[token] ?? 0) * states + state.at] as number;
  state.at = at;
  return asks[at] === true;
}

/** `cut` of every text policy. */
export function cutText(state: TextState, tables: TextTables): void {
  state.at = tables.settle[state.at] as number;
}

interface Unpacked {
  readonly states: number;
  /** Class per token id; ids beyond its end are of class 0. */
  readonly classOf: number[];
  /** [classes x states], row-major. */
  readonly next: number[];
  readonly asks: boolean[];
}

const cache = new WeakMap<TextTables, Unpacked>();

function unpacked(tables: TextTables): Unpacked {
  const known = cache.get(tables);
  if (known !== undefined) return known;
  const { states, maps, tokens } = tables;
  const next: number[] = [];
  for (const map of maps) {
    const row = new Array<number>(states).fill(map[0] as number);
    for (let i = 1; i < map.length; i += 2) row[map[i] as number] = map[i + 1] as number;
    for (const target of row) next.push(target);
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
  const asks = new Array<boolean>(states).fill(false);
  for (const state of tables.asks) asks[state] = true;
  const made = { states, classOf, next, asks };
  cache.set(tables, made);
  return made;
}

/** Text as a string of character classes (one UTF-16 unit a class). */
function characterClasses<S>(machine: TextMachine<S>): (text: string) => string {
  const known = new Map<string, string>();
  return (text) => {
    let classes = '';
    for (const character of text) {
      let unit = known.get(character);
      if (unit === undefined) {
        // From 1, as NUL marks special tokens.
        unit = String.fromCharCode(machine.classify(character) + 1);
        known.set(character, unit);
      }
      classes += unit;
    }
    return classes;
  };
}

function mapOf(machine: NumberedMachine, classes: string): number[] {
  return Array.from({ length: machine.states }, (_, from) => {
    let state = machine.begin[from] as number;
    for (let i = 0; i < classes.length; i++) {
      state = machine.next[state * machine.classes + classes.charCodeAt(i) - 1] as number;
    }
    return state;
  });
}

function restart(machine: NumberedMachine): number[] {
  return new Array<number>(machine.states).fill(0);
}

function sparse(map: readonly number[]): number[] {
  const counts = new Map<number, number>();
  for (const target of map) counts.set(target, (counts.get(target) ?? 0) + 1);
  const [common] = [...counts].sort(([a, n], [b, m]) => m - n || a - b)[0] as [number, number];
  const out = [common];
  map.forEach((target, from) => {
    if (target !== common) out.push(from, target);
  });
  return out;
}

function first(ids: readonly number[]): number {
  return ids[0] as number;
}
