// Which regular expressions of a tokenizer.json may run: those that run in linear time.
// Counterpart of python/lockstep/tokenizer/pattern.py; a test has both judge the same patterns.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { pythonRoot } from '../paths.ts';

export interface TokenizerRules {
  /** Kinds that each part of a tokenizer.json may have. */
  types: Record<string, string[]>;
  /** Patterns of widely used tokenizers that the check below is too strict for. */
  patterns: Record<string, string>;
  /** Alternatives that go back over a run of spaces; the last one, `\s+`, then takes that run. */
  spaces: string[];
  ids: number;
  addedTokens: number;
  addedCharacters: number;
  patternCharacters: number;
  choices: number;
}

export const rules: TokenizerRules = JSON.parse(
  readFileSync(path.join(pythonRoot, 'lockstep', 'tokenizer', 'pattern_rules.json'), 'utf8'),
);

/** SHA-256 of a pattern: how an operator names one that is to be trusted. */
export function patternName(pattern: string): string {
  return createHash('sha256').update(pattern).digest('hex').slice(0, 16);
}

/**
 * Why a pattern may take more than time in proportion to the text; null where it cannot.
 *
 * Going back is what makes a regular expression slow. So in each alternative a repetition without an
 * upper bound repeats one character or class, and everything after it is optional: once it has
 * begun, the alternative has matched. Bounded choices are counted. Everything that is not understood
 * here is refused.
 */
export function patternProblem(pattern: string): string | null {
  if (Object.values(rules.patterns).includes(pattern)) return null;
  if (pattern.length > rules.patternCharacters) {
    return `it is longer than ${rules.patternCharacters} characters`;
  }
  try {
    judgeAlternatives(new Parser(pattern).all());
    return null;
  } catch (error) {
    if (error instanceof Refused) return error.message;
    throw error;
  }
}

class Refused extends Error {}

interface Item {
  /** May be left out. */
  nullable: boolean;
  /** Repeats without an upper bound. */
  unbounded: boolean;
  /** In how many ways it can match at most, the repetition aside. */
  choices: number;
}

interface Branch {
  text: string;
  items: Item[];
}

function judgeAlternatives(branches: readonly Branch[]): void {
  let spaces = false;
  for (const { text, items } of branches) {
    if (rules.spaces.includes(text)) spaces = true;
    else if (spaces && text !== '\\s+') {
      throw new Refused(`only \\s+ may follow an alternative that goes back over spaces`);
    } else judgeBranch(items);
  }
  if (spaces && branches.at(-1)?.text !== '\\s+') {
    throw new Refused('an alternative goes back over spaces and none takes them at last (\\s+)');
  }
}

function judgeBranch(items: readonly Item[]): void {
  const at = items.findIndex((item) => item.unbounded);
  if (at !== -1 && items.slice(at + 1).some((item) => !item.nullable)) {
    throw new Refused('something must follow a repetition without an upper bound');
  }
  choicesOf(items);
}

function choicesOf(items: readonly Item[]): number {
  return counted(items.reduce((product, item) => product * item.choices, 1));
}

function counted(choices: number): number {
  if (choices <= rules.choices) return choices;
  throw new Refused(`it can match in more than ${rules.choices} ways`);
}

const anchors = 'bBAzZ';
const classes = 'sSdDwWhHrntfvae';

class Parser {
  readonly #text: string[];
  #at = 0;

  constructor(pattern: string) {
    this.#text = [...pattern];
  }

  all(): Branch[] {
    const branches = this.#branches(0);
    if (this.#at < this.#text.length) throw new Refused('a ) closes nothing');
    return branches;
  }

  #branches(depth: number): Branch[] {
    if (depth > 4) throw new Refused('its groups are nested too deeply');
    const branches: Branch[] = [];
    for (;;) {
      const start = this.#at;
      const items: Item[] = [];
      while (this.#at < this.#text.length && !'|)'.includes(this.#peek())) {
        items.push(this.#item(depth));
      }
      branches.push({ text: this.#text.slice(start, this.#at).join(''), items });
      if (this.#peek() !== '|') return branches;
      this.#at++;
    }
  }

  #peek(offset = 0): string {
    return this.#text[this.#at + offset] ?? '';
  }

  #take(): string {
    const character = this.#text[this.#at++];
    if (character === undefined) throw new Refused('it ends too early');
    return character;
  }

  #item(depth: number): Item {
    const character = this.#take();
    if (character === '(') return this.#group(depth);
    if (character === '[') this.#class();
    else if (character === '\\') {
      if (this.#escape()) return this.#fixed(1);
    } else if (character === '^' || character === '$') return this.#fixed(1);
    else if ('*+?{}]'.includes(character)) throw new Refused(`${character} is not allowed there`);
    return this.#quantified(1, true);
  }

  /** A class; the opening bracket is taken. */
  #class(): void {
    for (let depth = 1; depth > 0; ) {
      const character = this.#take();
      if (character === '\\') this.#take();
      else if (character === ']') depth--;
      else if (character === '[') depth++;
      else continue;
      // `[]` and `[^]` are read differently by different engines.
      const before = this.#text[this.#at - 2];
      const more = this.#text[this.#at - 3];
      if (character === ']' && (before === '[' || (before === '^' && more === '['))) {
        throw new Refused('a class is empty');
      }
    }
  }

  /** An escape; true for one that stands for a place. */
  #escape(): boolean {
    const letter = this.#take();
    if (anchors.includes(letter)) return true;
    if (letter === 'p' || letter === 'P') {
      if (this.#take() !== '{') throw new Refused('\\p has no {');
      this.#brace();
      return false;
    }
    if (letter === 'x' || letter === 'u') {
      if (this.#peek() === '{') this.#brace();
      else {
        for (let i = 0; i < (letter === 'x' ? 2 : 4); i++) {
          if (!/^[0-9A-Fa-f]$/.test(this.#take())) throw new Refused(`\\${letter} has no digits`);
        }
      }
      return false;
    }
    if (/^[A-Za-z0-9]$/.test(letter) && !classes.includes(letter)) {
      throw new Refused(`\\${letter} is not among what is understood`);
    }
    return false;
  }

  #brace(): void {
    while (this.#take() !== '}') {}
  }

  #group(depth: number): Item {
    let look = false;
    if (this.#peek() === '?') {
      const opening = ['?:', '?i:', '?=', '?!', '?<=', '?<!'].find((one) =>
        [...one].every((character, i) => this.#peek(i) === character),
      );
      if (opening === undefined) throw new Refused('a group is of a kind that is not understood');
      look = !opening.endsWith(':');
      this.#at += opening.length;
    }
    const branches = this.#branches(depth + 1);
    if (this.#take() !== ')') throw new Refused('a group has no end');
    let choices = 0;
    for (const { items } of branches) {
      if (items.some((item) => item.unbounded)) {
        throw new Refused('a group repeats something without an upper bound');
      }
      choices = counted(choices + choicesOf(items));
    }
    return look ? this.#fixed(choices) : this.#quantified(choices, false);
  }

  /** What cannot be repeated. */
  #fixed(choices: number): Item {
    if (this.#peek() !== '' && '*+?{'.includes(this.#peek())) {
      throw new Refused('something is repeated that has no width');
    }
    return { nullable: false, unbounded: false, choices };
  }

  #quantified(choices: number, single: boolean): Item {
    const sign = this.#peek();
    if (sign === '' || !'*+?{'.includes(sign)) {
      return { nullable: false, unbounded: false, choices };
    }
    this.#at++;
    const [least, most] = sign === '{' ? this.#interval() : this.#sign(sign);
    const unbounded = most === null;
    if (unbounded && !single) throw new Refused('a group repeats without an upper bound');
    let ways = choices;
    if (most !== null) {
      ways = most - least + 1;
      for (let i = 0; i < most && choices > 1; i++) ways = counted(ways * choices);
    }
    return { nullable: least === 0, unbounded, choices: counted(ways) };
  }

  #sign(sign: string): [number, number | null] {
    // Lazy and possessive ones go back no further than the greedy one.
    if (this.#peek() === '?' || this.#peek() === '+') this.#at++;
    if (this.#peek() !== '' && '*+?{'.includes(this.#peek())) {
      throw new Refused('a repetition is repeated');
    }
    return sign === '?' ? [0, 1] : sign === '*' ? [0, null] : [1, null];
  }

  #interval(): [number, number | null] {
    let inside = '';
    while (this.#peek() !== '}') inside += this.#take();
    this.#at++;
    const found = /^([0-9]{0,4})(,?)([0-9]{0,4})$/.exec(inside);
    const least = Number(found?.[1] ?? '');
    const most = found?.[2] === '' ? least : found?.[3] === '' ? null : Number(found?.[3]);
    if (found === null || inside === '' || inside === ',' || (most !== null && most < least)) {
      throw new Refused(`{${inside}} is no interval`);
    }
    // After an interval these mean different things in different engines.
    if (this.#peek() !== '' && '*+?{'.includes(this.#peek())) {
      throw new Refused('a repetition is repeated');
    }
    return [least, most];
  }
}
