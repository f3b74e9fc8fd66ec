// A retrieval pool: raw keys and values of one layer's long heads for every token but the sinks.
import type { KeyChunk } from './scores.ts';

/** Tokens a page. Full pages never change, so forks share them. */
export const pageRows = 256;

/** [heads, 256, dim] each. */
interface Page {
  keys: Float32Array;
  values: Float32Array;
  /** The largest magnitude in each key, [heads, 256]. */
  largest: Float32Array;
}

export class Pool {
  readonly heads: number;
  readonly dim: number;
  /** Tokens held. */
  length = 0;
  #pages: Page[] = [];

  constructor(heads: number, dim: number) {
    this.heads = heads;
    this.dim = dim;
  }

  get bytes(): number {
    return this.#pages.length * 4 * this.heads * pageRows * (2 * this.dim + 1);
  }

  /**
   * Append one token's row of every head.
   *
   * @param keys raw keys [heads, dim] at `keyAt`
   * @param values values of head h at `valueAt + h * valueStride`
   */
  append(
    keys: Float32Array,
    keyAt: number,
    values: Float32Array,
    valueAt: number,
    valueStride: number,
  ): void {
    const { heads, dim } = this;
    const row = this.length % pageRows;
    if (row === 0) this.#pages.push(this.#emptyPage());
    const page = this.#pages[this.#pages.length - 1] as Page;
    for (let head = 0; head < heads; head++) {
      const target = (head * pageRows + row) * dim;
      const key = keyAt + head * dim;
      const value = valueAt + head * valueStride;
      page.keys.set(keys.subarray(key, key + dim), target);
      page.largest[head * pageRows + row] = largestOf(keys, key, dim);
      page.values.set(values.subarray(value, value + dim), target);
    }
    this.length++;
  }

  /** The raw keys of one head, in order. */
  keyChunks(head: number): KeyChunk[] {
    const start = head * pageRows * this.dim;
    return this.#pages.map((page, index) => ({
      data: page.keys.subarray(start, start + pageRows * this.dim),
      rows: Math.min(pageRows, this.length - index * pageRows),
      largest: page.largest.subarray(head * pageRows, (head + 1) * pageRows),
    }));
  }

  /** The raw keys of every page, [heads, 256, dim]; rows beyond the length are zeros. */
  keyPages(): Float32Array[] {
    return this.#pages.map((page) => page.keys);
  }

  /** Copy one head's row into `keys` and `values` at `at`. */
  copyRow(
    head: number,
    position: number,
    keys: Float32Array,
    values: Float32Array,
    at: number,
  ): void {
    const page = this.#pages[Math.floor(position / pageRows)] as Page;
    const start = (head * pageRows + (position % pageRows)) * this.dim;
    keys.set(page.keys.subarray(start, start + this.dim), at);
    values.set(page.values.subarray(start, start + this.dim), at);
  }

  /** A pool that grows on its own; full pages are shared. */
  fork(): Pool {
    const twin = new Pool(this.heads, this.dim);
    twin.length = this.length;
    twin.#pages = this.#pages.slice();
    const last = twin.#pages.length - 1;
    const open = twin.#pages[last];
    if (open !== undefined && this.length % pageRows !== 0) {
      twin.#pages[last] = {
        keys: open.keys.slice(),
        values: open.values.slice(),
        largest: open.largest.slice(),
      };
    }
    return twin;
  }

  #emptyPage(): Page {
    const size = this.heads * pageRows * this.dim;
    return {
      keys: new Float32Array(size),
      values: new Float32Array(size),
      largest: new Float32Array(this.heads * pageRows),
    };
  }
}

/** NaN where one of them is. */
function largestOf(data: Float32Array, at: number, count: number): number {
  let largest = 0;
  for (let i = at; i < at + count; i++) largest = Math.max(largest, Math.abs(data[i] as number));
  return largest;
}
