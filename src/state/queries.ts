// The group-mean queries of an open segment's last tokens, which choose what is retrieved. With groups
// of one they are the queries themselves.
import { meanRows } from './means.ts';

export class RecentQueries {
  readonly #heads: number;
  readonly #group: number;
  readonly #dim: number;
  readonly #limit: number;
  /** Ring of the last tokens' means, [limit, heads, dim]. */
  #ring: Float32Array;
  #seen = 0;

  /**
   * @param group query heads that are averaged
   * @param limit how many of the last tokens are kept
   */
  constructor(heads: number, group: number, dim: number, limit: number) {
    this.#heads = heads;
    this.#group = group;
    this.#dim = dim;
    this.#limit = limit;
    this.#ring = new Float32Array(this.#limit * heads * dim);
  }

  get buffer(): ArrayBufferLike {
    return this.#ring.buffer;
  }

  get bytes(): number {
    return this.#ring.byteLength;
  }

  /** Take in raw queries [tokens, heads * group, dim] of the segment's next tokens. */
  push(queries: Float32Array, tokens: number): void {
    const row = this.#heads * this.#dim;
    for (let token = Math.max(0, tokens - this.#limit); token < tokens; token++) {
      const slot = ((this.#seen + token) % this.#limit) * row;
      for (let head = 0; head < this.#heads; head++) {
        const first = (token * this.#heads + head) * this.#group;
        this.#ring.set(meanRows(queries, this.#dim, first, this.#group), slot + head * this.#dim);
      }
    }
    this.#seen += tokens;
  }

  /** The means of one head, in order of tokens, [min(limit, seen), dim]. */
  of(head: number): Float32Array {
    const count = Math.min(this.#limit, this.#seen);
    const out = new Float32Array(count * this.#dim);
    for (let i = 0; i < count; i++) {
      const slot = (this.#seen - count + i) % this.#limit;
      const at = (slot * this.#heads + head) * this.#dim;
      out.set(this.#ring.subarray(at, at + this.#dim), i * this.#dim);
    }
    return out;
  }

  /** A new segment begins: queries never reach into the one before. */
  clear(): void {
    this.#seen = 0;
  }

  fork(): RecentQueries {
    const fork = new RecentQueries(this.#heads, this.#group, this.#dim, this.#limit);
    fork.#ring = this.#ring.slice();
    fork.#seen = this.#seen;
    return fork;
  }
}
