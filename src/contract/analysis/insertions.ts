// Texts put into a script, and where each place of the result was before.
import type { AnyNode, Function as FunctionNode } from 'acorn';

/** Order at one place: what closes (inner pairs first), points, what opens (outer pairs first). */
type Rank = readonly [kind: number, size: number, order: number];

interface Insertion {
  readonly at: number;
  readonly text: string;
  readonly rank: Rank;
}

export interface Instrumented {
  readonly text: string;
  /** Offset in the source of an offset in the text; the nearest one for what was added. */
  readonly original: (offset: number) => number;
}

/** Texts to insert, in the one order in which pairs stay nested. */
export class Insertions {
  readonly #all: Insertion[] = [];

  around(node: AnyNode, before: string, after: string): void {
    const order = this.#all.length;
    this.#all.push({ at: node.start, text: before, rank: [OPENING, -node.end, order] });
    this.#all.push({ at: node.end, text: after, rank: [CLOSING, -node.start, -order] });
  }

  at(offset: number, text: string): void {
    this.#all.push({ at: offset, text, rank: [POINT, 0, this.#all.length] });
  }

  /** Statements or, in an arrow function without a block, expressions at the beginning of a body. */
  beginBody({ body }: FunctionNode, calls: readonly string[]): void {
    if (calls.length === 0) return;
    if (body.type === 'BlockStatement') this.at(body.start + 1, `${calls.join('; ')};`);
    else this.around(body, `(${calls.join(', ')}, `, ')');
  }

  applied(source: string): Instrumented {
    const sorted = [...this.#all].sort((a, b) => a.at - b.at || compare(a.rank, b.rank));
    let out = '';
    let from = 0;
    for (const { at, text } of sorted) {
      out += source.slice(from, at) + text;
      from = at;
    }
    const original = (offset: number): number => {
      let added = 0;
      for (const { at, text } of sorted) {
        if (at + added + text.length > offset) return Math.min(offset - added, at);
        added += text.length;
      }
      return Math.min(offset - added, source.length);
    };
    return { text: out + source.slice(from), original };
  }
}

const CLOSING = 0;
const POINT = 1;
const OPENING = 2;

function compare(a: Rank, b: Rank): number {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2];
}
