// A retrieval pool: raw keys and values of one layer's long heads for every token but the sinks.
import type { KeyChunk } from './scores.ts';

/** Tokens a page unless told otherwise. Full pages never change, so forks share them. */
export const pageRows = 256;

/** [heads, rows a page, dim] each. */
interface Page {
  keys: Float32Array;
  values: Float32Array;
  /** The largest magnitude in each key, [heads, rows a page]. */
  largest: Float32Array;
}

export class Pool {
  readonly heads: number;
  readonly dim: number;
  /** Tokens a page. */
  readonly rows: number;
  /** Tokens held. */
  length = 0;
  #pages: Page[] = [];

  constructor(heads: number, dim: number, rows: number = pageRows) {
    this.heads = heads;
    this.dim = dim;
    this.rows = rows;
  }

  /** The memory that it holds; forks share that of full pages. */
  *buffers(): Generator<ArrayBufferLike> {
    for (const { keys, values, largest } of this.#pages) {
      yield keys.buffer;
      yield values.buffer;
      yield largest.buffer;
    }
  }

  get bytes(): number {
    return this.#pages.length * 4 * this.heads * this.rows * (2 * this.dim + 1);
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
    const { heads, dim, rows } = this;
    const row = this.length % rows;
    if (row === 0) this.#pages.push(this.#emptyPage());
    const page = this.#pages[this.#pages.length - 1] as Page;
    for (let head = 0; head < heads; head++) {
      const target = (head * rows + row) * dim;
      const key = keyAt + head * dim;
      const value = valueAt + head * valueStride;
      page.keys.set(keys.subarray(key, key + dim), target);
      page.largest[head * rows + row] = largestOf(keys, key, dim);
      page.values.set(values.subarray(value, value + dim), target);
    }
    this.length++;
  }

  /** The raw keys of one head's first `length` rows, in order. */
  keyChunks(head: number, length = this.length): KeyChunk[] {
    const { rows, dim } = this;
    const start = head * rows * dim;
    return this.#pages.slice(0, Math.ceil(length / rows)).map((page, index) => ({
      data: page.keys.subarray(start, start + rows * dim),
      rows: Math.min(rows, length - index * rows),
      largest: page.largest.subarray(head * rows, (head + 1) * rows),
    }));
  }

  /** The raw keys of every page, [heads, rows a page, dim]; rows beyond the length are zeros. */
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
    const page = this.#pages[Math.floor(position / this.rows)] as Page;
    const start = (head * this.rows + (position % this.rows)) * this.dim;
    keys.set(page.keys.subarray(start, start + this.dim), at);
    values.set(page.values.subarray(start, start + this.dim), at);
  }

  /** A pool that grows on its own; full pages are shared. */
  fork(): Pool {
    const fork = new Pool(this.heads, this.dim, this.rows);
    fork.length = this.length;
    fork.#pages = this.#pages.slice();
    const last = fork.#pages.length - 1;
    const open = fork.#pages[last];
    if (open !== undefined && this.length % this.rows !== 0) {
      fork.#pages[last] = {
        keys: open.keys.slice(),
        values: open.values.slice(),
        largest: open.largest.slice(),
      };
    }
    return fork;
  }

  #emptyPage(): Page {
    const size = this.heads * this.rows * this.dim;
    return {
      keys: new Float32Array(size),
      values: new Float32Array(size),
      largest: new Float32Array(this.heads * this.rows),
    };
  }
}

/** NaN where one of them is. */
function largestOf(data: Float32Array, at: number, count: number): number {
  let largest = 0;
  for (let i = at; i < at + count; i++) largest = Math.max(largest, Math.abs(data[i] as number));
  return largest;
}
