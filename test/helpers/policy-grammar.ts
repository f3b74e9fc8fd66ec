// Random policies: modules as an author might write them, from a grammar of the language's usual parts.
import { randomIntegers } from './random.ts';

/** A module that exports the policy `own`, and the tables it is given. */
export interface RandomPolicy {
  readonly module: string;
  readonly params: { k: number };
  readonly tables: { ends: number[]; weights: number[]; words: string[] };
}

/** Token ids of the random policies: 0 to `vocabulary` - 1. */
export const vocabulary = 64;

/** A random policy; the same for the same seed. Some do what the bundler refuses. */
export function randomPolicy(seed: number): RandomPolicy {
  return new Grammar(seed).policy();
}

class Grammar {
  readonly #draw: (below: number) => number;
  /** Names that expressions of each kind may use where they stand. */
  #integers: string[] = [];
  #lists: string[] = [];
  #strings: string[] = [];
  #booleans: string[] = [];
  #fresh = 0;

  constructor(seed: number) {
    const draw = randomIntegers(seed);
    // The first draws of neighbouring seeds are alike.
    for (let i = 0; i < 8; i++) draw(2);
    this.#draw = (below) => draw(below);
  }

  policy(): RandomPolicy {
    const list = (length: number, below: number): number[] =>
      Array.from({ length }, () => this.#draw(below));
    const tables = {
      ends: [...new Set(list(1 + this.#draw(6), vocabulary))],
      weights: list(vocabulary, 97),
      words: Array.from({ length: 3 + this.#draw(4) }, () => this.#word()),
    };
    const helpers = this.#helpers();
    const refused = this.#draw(20) === 0 ? this.#refused() : '';
    this.#integers = ['token', 's.a', 's.b', 's.deep.n', 's.list.length', 'params.k'];
    this.#lists = ['s.list', 's.deep.items', 'tables.weights'];
    this.#strings = ['s.text', 'tables.words[abs(s.a) % tables.words.length]!'];
    this.#booleans = ['s.on', 'has(tables.ends, token)'];
    const body = this.#statements(2 + this.#draw(5), 2);
    const cut = this.#statements(this.#draw(3), 1).replaceAll('token', 's.b');
    const answer = `${this.#boolean(3)}${refused === '' ? '' : ' || touch() > 1e9'}`;
    const params = { k: 1 + this.#draw(40) };
    const module = `import { definePolicy, has } from 'lockstep';
${helpers}
${refused}
const abs = (n: number): number => (n < 0 ? -n : n);
const int = (n: number): number => (n - n === 0 ? n | 0 : 0);
interface S { a: number; b: number; on: boolean; text: string; list: number[]; counts: Record<string, number>; deep: { n: number; items: number[] } }
interface Tables { readonly ends: readonly number[]; readonly weights: readonly number[]; readonly words: readonly string[] }
export const own = definePolicy({
  name: 'own',
  params: { k: ${params.k} },
  prepare: () => null as unknown as null,
  start: (): S => ({ a: ${this.#draw(9)}, b: ${this.#draw(9)}, on: ${this.#draw(2) === 0}, text: '${this.#word()}', list: [], counts: {}, deep: { n: 0, items: [${list(this.#draw(4), 20)}] } }),
  push: (s: any, token: number, { tables, params }: any): boolean => {
${body}
    s.a = int(s.a); s.b = int(s.b); s.deep.n = int(s.deep.n);
    if (s.list.length > 24) s.list = s.list.slice(-12);
    if (s.deep.items.length > 24) s.deep.items.splice(0, 12);
    if (s.text.length > 40) s.text = s.text.slice(-20);
    return ${answer};
  },
  cut: (s: any, { tables, params }: any): void => {
${cut}
    s.a = int(s.a); s.b = int(s.b); s.deep.n = int(s.deep.n);
    if (s.list.length > 24) s.list = s.list.slice(-12);
  },
});
`;
    return { module, params, tables };
  }

  #pick<T>(all: readonly T[]): T {
    return all[this.#draw(all.length)] as T;
  }

  #word(): string {
    return Array.from({ length: 1 + this.#draw(5) }, () => this.#pick([...'abcdexyzéß語'])).join(
      '',
    );
  }

  #helpers(): string {
    return this.#pick([
      'const grid = [[1, 2, 3], [5, 8, 13]] as const;\nconst helper = (n: number): number => grid[n & 1]![n % 3 < 0 ? 0 : n % 3]!;',
      'function* upTo(n: number) { for (let i = 0; i < (n & 7); i++) yield i * 3; }\nconst helper = (n: number): number => [...upTo(n)].reduce((x, y) => x + y, 0);',
      'class Pile { items: number[] = []; add(n: number) { this.items.push(n); return this; } get top() { return this.items.at(-1) ?? 0; } }\nconst helper = (n: number): number => new Pile().add(n).add(n >> 1).top;',
      "const kinds = new Map([['a', 1], ['b', 2]]);\nconst helper = (n: number): number => kinds.get(n & 1 ? 'a' : 'b')! * n;",
      'const helper = (n: number): number => { let sum = 0; [1, 2, 3].forEach((x) => { sum += x * n; }); return sum | 0; };',
      'const helper = (n: number): number => { switch (n & 3) { case 0: return 7; case 1: return n; default: return parseInt(String(n & 255), 13) | 0; } };',
      'const fib = (n: number): number => (n < 2 ? n : fib(n - 1) + fib(n - 2));\nconst helper = (n: number): number => fib(n & 7);',
      'const table: Record<number, number> = {};\nfor (let i = 0; i < 20; i++) table[i] = Math.imul(i, 2654435761) >>> 20;\nconst helper = (n: number): number => table[n & 15]!;',
    ]);
  }

  /** What no policy may do; the module is refused then, or the sequence ends with the same error. */
  #refused(): string {
    return this.#pick([
      'let memory = 0;\nconst touch = () => { memory += 1; return memory; };',
      'const seen = new Set<number>();\nconst touch = () => { seen.add(1); return seen.size; };',
      'const touch = () => Date.now();',
      'const touch = () => { try { return helper(3); } catch { return 0; } };',
      "const touch = () => ('a'.localeCompare('b'));",
      'const touch = () => (() => { const o = [{ n: 0 }]; return () => { const [p] = o; p!.n += 1; return p!.n; }; })()();',
    ]);
  }

  #statements(count: number, depth: number): string {
    return Array.from({ length: count }, () => `    ${this.#statement(depth)}`).join('\n');
  }

  #statement(depth: number): string {
    const integer = () => this.#integer(2);
    const nested = depth > 0 ? 12 : 8;
    switch (this.#draw(nested)) {
      case 0:
        return `s.a = int(${integer()});`;
      case 1:
        return `s.b ${this.#pick(['+=', '-=', '^=', '|=', '&='])} int(${integer()});`;
      case 2:
        return `s.list.push(int(${integer()}));`;
      case 3:
        // Loops may run it 16 times a token: a text that doubles each time would reach the limit of time.
        return `s.text = (s.text + ${this.#string(1)}).slice(-99);`;
      case 4:
        return `s.on = ${this.#boolean(2)};`;
      case 5: {
        const key = this.#pick(['String(token & 7)', 's.text.slice(0, 1)', "'k' + (s.b & 3)"]);
        return `s.counts[${key}] = int((s.counts[${key}] ?? 0) + ${integer()});`;
      }
      case 6:
        return `s.deep.items ${this.#pick([
          `= ${this.#list(2)}.slice(-6)`,
          `= [...s.deep.items, int(${integer()})]`,
          `= s.deep.items.map((x: number) => x ^ (token & 3))`,
        ])};`;
      case 7:
        return `s.deep.n = int(${this.#float()});`;
      case 8:
        return `if (${this.#boolean(2)}) { ${this.#statement(depth - 1)} } else { ${this.#statement(depth - 1)} }`;
      case 9: {
        const name = this.#name();
        const before = [...this.#integers];
        this.#integers.push(name);
        const inner = this.#statement(depth - 1);
        this.#integers = before;
        return `for (let ${name} = 0; ${name} < ${1 + this.#draw(4)}; ${name}++) { ${inner} }`;
      }
      case 10: {
        const name = this.#name();
        const before = [...this.#integers];
        this.#integers.push(name);
        const inner = this.#statement(depth - 1);
        this.#integers = before;
        return `for (const ${name} of ${this.#list(1)}.slice(0, 4)) { ${inner} }`;
      }
      default:
        return `{ let sum = 0; ${this.#list(1)}.forEach((x: number) => { sum = (sum + x * 3) | 0; }); s.a = int(s.a + sum); }`;
    }
  }

  #name(): string {
    this.#fresh += 1;
    return `v${this.#fresh}`;
  }

  #integer(depth: number): string {
    const inner = () => (depth > 0 ? this.#integer(depth - 1) : this.#pick(this.#integers));
    switch (this.#draw(depth > 0 ? 15 : 3)) {
      case 0:
        return String(this.#draw(100));
      case 1:
      case 2:
        return this.#pick(this.#integers);
      case 3:
        return `(${inner()} ${this.#pick(['+', '-', '*', '&', '|', '^', '<<', '>>', '>>>'])} ${inner()})`;
      case 4:
        return `(${inner()} % ${1 + this.#draw(50)})`;
      case 5:
        return `Math.${this.#pick(['imul', 'max', 'min'])}(${inner()}, ${inner()})`;
      case 6:
        return `Math.${this.#pick(['abs', 'sign', 'clz32', 'trunc'])}(${inner()})`;
      case 7:
        return `helper(int(${inner()}))`;
      case 8:
        return `(${this.#boolean(depth - 1)} ? ${inner()} : ${inner()})`;
      case 9:
        return `(${this.#list(depth - 1)}.${this.#pick(['at(-1)', 'at(0)', 'indexOf(token)', 'length', 'findLast((x: number) => x > 5)'])} ?? 0)`;
      case 10:
        return `${this.#list(depth - 1)}.reduce((x: number, y: number) => (x + y) | 0, 0)`;
      case 11:
        return `(${this.#string(depth - 1)}.${this.#pick(['length', 'charCodeAt(0)', 'codePointAt(0)', "indexOf('a')", 'localeLength'].slice(0, 4))} || 0)`;
      case 12:
        return `(tables.weights[abs(int(${inner()})) % ${vocabulary}] ?? 0)`;
      case 13:
        return `(parseInt(${this.#string(depth - 1)}, ${2 + this.#draw(35)}) || 0)`;
      default:
        return `new Set(${this.#list(depth - 1)}).size`;
    }
  }

  #float(): string {
    const i = this.#integer(1);
    return this.#pick([
      `Math.sqrt(abs(int(${i}))) * 10`,
      `Number((int(${i}) / 7).toFixed(3)) * 100`,
      `parseFloat((int(${i}) * 1.1).toPrecision(7))`,
      `Math.fround(int(${i}) / 3) * 1000`,
      `Math.round(int(${i}) * 0.37) + Math.floor(int(${i}) / 9)`,
      `Number(String(int(${i}) / 3).slice(0, 9)) * 50`,
      `JSON.stringify({ x: int(${i}) / 11 }).length`,
      `new Float64Array([int(${i}) * 1e-3, 2.5]).reduce((x, y) => x + y, 0) * 8`,
    ]);
  }

  #list(depth: number): string {
    const inner = () => (depth > 0 ? this.#list(depth - 1) : this.#pick(this.#lists));
    switch (this.#draw(depth > 0 ? 11 : 2)) {
      case 0:
      case 1:
        return this.#pick(this.#lists);
      case 2:
        return `${inner()}.slice(${this.#draw(3)}, ${3 + this.#draw(9)})`;
      case 3:
        return `${inner()}.filter((x: number) => (x & ${1 + this.#draw(3)}) === 0)`;
      case 4:
        return `${inner()}.map((x: number) => (x * ${1 + this.#draw(9)}) % 101)`;
      case 5:
        return `[...${inner()}].sort((x: number, y: number) => ${this.#pick(['x - y', 'y - x', '(x % 7) - (y % 7)', '0'])})`;
      case 6:
        return `[...${inner()}].reverse()`;
      case 7:
        return `${inner()}.concat([token, s.a & 15])`;
      case 8:
        return `Array.from(new Map(${inner()}.map((x: number) => [x % 5, x])).values())`;
      case 9:
        return `${this.#string(depth - 1)}.split('').map((c: string) => c.charCodeAt(0) & 63)`;
      default:
        return `[...${inner()}].sort()`;
    }
  }

  #string(depth: number): string {
    const inner = () => (depth > 0 ? this.#string(depth - 1) : this.#pick(this.#strings));
    switch (this.#draw(depth > 0 ? 10 : 2)) {
      case 0:
        return this.#pick(this.#strings);
      case 1:
        return `'${this.#word()}'`;
      case 2:
        return `${inner()}.slice(${this.#draw(3)}, ${3 + this.#draw(6)})`;
      case 3:
        return `\`\${${inner()}}-\${token}\``;
      case 4:
        return `int(${this.#integer(depth - 1)}).toString(${2 + this.#draw(35)})`;
      case 5:
        return `${inner()}.replaceAll('a', 'b')`;
      case 6:
        return `${inner()}.padStart(${this.#draw(9)}, 'xy')`;
      case 7:
        return `[...${inner()}].reverse().join('')`;
      case 8:
        return `String(int(${this.#integer(depth - 1)}) / 7).slice(0, 12)`;
      default:
        return `String.fromCharCode(97 + (abs(int(${this.#integer(depth - 1)})) % 26))`;
    }
  }

  #boolean(depth: number): string {
    const inner = () => (depth > 0 ? this.#boolean(depth - 1) : this.#pick(this.#booleans));
    switch (this.#draw(depth > 0 ? 9 : 2)) {
      case 0:
      case 1:
        return this.#pick(this.#booleans);
      case 2:
        return `(${this.#integer(1)} ${this.#pick(['<', '>', '===', '!==', '<='])} ${this.#integer(1)})`;
      case 3:
        return `(${inner()} ${this.#pick(['&&', '||'])} ${inner()})`;
      case 4:
        return `!${inner()}`;
      case 5:
        return `(${this.#integer(1)} % ${2 + this.#draw(12)} === 0)`;
      case 6:
        return `${this.#list(1)}.${this.#pick(['includes(token)', 'some((x: number) => x > 50)', 'every((x: number) => x < 90)'])}`;
      case 7:
        return `(${this.#string(1)} ${this.#pick(['<', '>', '===', '!=='])} ${this.#string(1)})`;
      default:
        return `${this.#string(1)}.${this.#pick(["startsWith('a')", "includes('b')", "endsWith('1')"])}`;
    }
  }
}
