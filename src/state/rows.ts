// A growing buffer of key and value rows: what one attention call reads, [heads, capacity, dim].

/** Fewest rows that a buffer with anything in it has. */
const smallest = 32;

export class RowBuffer {
  readonly heads: number;
  readonly dim: number;
  /** Rows the buffer never grows beyond. */
  readonly limit: number;
  capacity = 0;
  /** [heads, capacity, dim]; replaced when the buffer grows. */
  keys: Float32Array = new Float32Array(0);
  values: Float32Array = new Float32Array(0);

  constructor(heads: number, dim: number, limit: number) {
    this.heads = heads;
    this.dim = dim;
    this.limit = limit;
  }

  get bytes(): number {
    return this.keys.byteLength + this.values.byteLength;
  }

  /** Bytes of `rows` rows of keys and values. */
  bytesOf(rows: number): number {
    return 2 * 4 * this.heads * rows * this.dim;
  }

  /** Make room for `rows` rows; the first `used` keep their content. */
  reserve(rows: number, used: number): void {
    if (rows <= this.capacity) return;
    if (rows > this.limit) throw new RangeError(`expected at most ${this.limit} rows, got ${rows}`);
    const capacity = Math.min(this.limit, Math.max(rows, 2 * this.capacity, smallest));
    this.keys = this.#moved(this.keys, capacity, used);
    this.values = this.#moved(this.values, capacity, used);
    this.capacity = capacity;
  }

  /** Move rows [from, from + count) of every head to row `to`. */
  moveRows(from: number, to: number, count: number): void {
    if (from === to || count === 0) return;
    for (let head = 0; head < this.heads; head++) {
      const start = this.offset(head, from);
      const target = this.offset(head, to);
      this.keys.copyWithin(target, start, start + count * this.dim);
      this.values.copyWithin(target, start, start + count * this.dim);
    }
  }

  /** Index of a row's first number in `keys` and `values`. */
  offset(head: number, row: number): number {
    return (head * this.capacity + row) * this.dim;
  }

  /** An independent copy of the first `used` rows, with room for no more. */
  fork(used: number): RowBuffer {
    const fork = new RowBuffer(this.heads, this.dim, this.limit);
    fork.keys = this.#moved(this.keys, used, used);
    fork.values = this.#moved(this.values, used, used);
    fork.capacity = used;
    return fork;
  }

  #moved(source: Float32Array, capacity: number, used: number): Float32Array {
    const target = new Float32Array(this.heads * capacity * this.dim);
    for (let head = 0; head < this.heads; head++) {
      const start = this.offset(head, 0);
      target.set(source.subarray(start, start + used * this.dim), head * capacity * this.dim);
    }
    return target;
  }
}
