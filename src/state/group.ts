// The state of one head group: its rows (prefix, then the open segment), and what a boundary makes of
// them (SEMANTICS.md 2).
import type { HeadGroup, Layout } from './layout.ts';
import { rowLimit } from './layout.ts';
import { Pool } from './pool.ts';
import { RecentQueries } from './queries.ts';
import { selectHead } from './retrieval.ts';
import { anglesOf, type Rotation, rotateRows } from './rotation.ts';
import { RowBuffer } from './rows.ts';
import type { Products } from './scores.ts';

/** Where a closed segment began and ended. */
export interface Closing {
  start: number;
  end: number;
}

export class GroupState {
  readonly group: HeadGroup;
  /** Rows [0, prefix) are the prefix: sinks first; then the open segment's. Keys are rotated. */
  buffer: RowBuffer;
  prefix = 0;
  pool: Pool | null = null;
  queries: RecentQueries | null = null;
  readonly #layout: Layout;
  readonly #rotation: Rotation;
  /** The sinks' keys as computed, at their own positions 0..A-1, [heads, A, dim]. */
  #sinkKeys: Float32Array;
  #sinks = 0;

  constructor(group: HeadGroup, layout: Layout, rotation: Rotation) {
    this.group = group;
    this.#layout = layout;
    this.#rotation = rotation;
    this.buffer = new RowBuffer(group.heads, layout.headDim, rowLimit(layout, group));
    this.#sinkKeys = new Float32Array(group.heads * layout.sinks * layout.headDim);
    if (group.prefix === 'long') {
      const perHead = layout.queryHeads / layout.kvHeads;
      this.pool = new Pool(group.heads, layout.headDim);
      this.queries = new RecentQueries(group.heads, perHead, layout.headDim, layout.recipe);
    }
  }

  /** Take in what the graph gave for the segment's next tokens: raw queries and keys, token-major. */
  take(queries: Float32Array, keys: Float32Array, position: number, start: number, tokens: number) {
    const { pool, buffer } = this;
    if (pool === null || this.queries === null) throw new Error('expected a group with a pool');
    this.queries.push(queries, tokens);
    const stride = buffer.capacity * buffer.dim;
    for (let i = Math.max(0, this.#layout.sinks - position); i < tokens; i++) {
      const row = this.prefix + position + i - start;
      pool.append(keys, i * buffer.heads * buffer.dim, buffer.values, row * buffer.dim, stride);
    }
  }

  /**
   * Make the next segment's prefix of a closed segment [start, end).
   *
   * @param products of `queryVectors` of all heads and each page of the pool, [heads, vectors, rows]
   * @returns the chosen pool positions per head, or null for a group without a pool
   */
  close({ start, end }: Closing, products?: readonly Products[]): Int32Array[] | null {
    const { sinks, carry } = this.#layout;
    const used = this.prefix + end - start;
    const kept = Math.min(sinks, end);
    // While sinks are still coming in there is no carry and no pool: the values are in place.
    this.#keepSinks(start, kept);
    let positions: Int32Array[] | null = null;
    if (this.group.prefix === 'local') {
      const carried = Math.max(0, Math.min(carry, end - sinks));
      this.buffer.moveRows(used - carried, kept, carried);
      this.prefix = kept + carried;
      this.#placeSinks(end);
    } else if (this.pool !== null && this.queries !== null) {
      positions = this.#choose(this.pool, this.queries, products);
      this.queries.clear();
      this.retrieve(positions, end);
    } else {
      this.prefix = kept;
      this.#placeSinks(end);
    }
    return positions;
  }

  /** Put these pool rows behind the sinks, for a segment that starts at `end`. */
  retrieve(positions: readonly Int32Array[], end: number): void {
    const { pool, buffer } = this;
    if (pool === null) throw new Error('expected a group with a pool');
    const count = positions[0]?.length ?? 0;
    this.prefix = this.#sinks + count;
    buffer.reserve(this.prefix, this.#sinks);
    const angles = anglesOf(this.#rotation, end - count, count);
    for (let head = 0; head < buffer.heads; head++) {
      const chosen = positions[head] as Int32Array;
      const at = buffer.offset(head, this.#sinks);
      for (let row = 0; row < count; row++) {
        const target = at + row * buffer.dim;
        pool.copyRow(head, chosen[row] as number, buffer.keys, buffer.values, target);
      }
      rotateRows(buffer.keys, at, buffer.keys, at, count, angles, buffer.dim / 2);
    }
    this.#placeSinks(end);
  }

  /** Bytes by part; `open` is everything in the buffer beyond the prefix, and the queries. */
  memory(): { sinks: number; carry: number; pool: number; retrieved: number; open: number } {
    const { buffer } = this;
    const extra = buffer.bytesOf(this.prefix - this.#sinks);
    const local = this.group.prefix === 'local';
    return {
      sinks: buffer.bytesOf(this.#sinks) + this.#sinkKeys.byteLength,
      carry: local ? extra : 0,
      pool: this.pool?.bytes ?? 0,
      retrieved: local ? 0 : extra,
      open: buffer.bytes - buffer.bytesOf(this.prefix) + (this.queries?.bytes ?? 0),
    };
  }

  /** An independent copy; `open` tokens of the segment are in the buffer. */
  fork(open: number): GroupState {
    const twin = new GroupState(this.group, this.#layout, this.#rotation);
    twin.buffer = this.buffer.fork(this.prefix + open);
    twin.prefix = this.prefix;
    twin.pool = this.pool?.fork() ?? null;
    twin.queries = this.queries?.fork() ?? null;
    twin.#sinkKeys = this.#sinkKeys.slice();
    twin.#sinks = this.#sinks;
    return twin;
  }

  #choose(pool: Pool, queries: RecentQueries, products?: readonly Products[]): Int32Array[] {
    const { retrieval, recipe } = this.#layout;
    return Array.from({ length: pool.heads }, (_, head) => {
      const own = products?.map((page) => {
        const size = page.length / pool.heads;
        return page.subarray(head * size, (head + 1) * size);
      });
      return selectHead(queries.of(head), pool.keyChunks(head), pool.dim, retrieval, recipe, own);
    });
  }

  /** Remember the keys of the segment's tokens that are sinks: [start, kept). */
  #keepSinks(start: number, kept: number): void {
    const { buffer } = this;
    for (let head = 0; head < buffer.heads && start < kept; head++) {
      const from = buffer.offset(head, this.prefix);
      this.#sinkKeys.set(
        buffer.keys.subarray(from, from + (kept - start) * buffer.dim),
        (head * this.#layout.sinks + start) * buffer.dim,
      );
    }
    this.#sinks = kept;
  }

  /** Rotate the sinks' keys from 0..A-1 to where the prefix of a segment at `end` begins. */
  #placeSinks(end: number): void {
    const { buffer } = this;
    const angles = anglesOf({ ...this.#rotation, factor: 1 }, end - this.prefix, 1);
    for (let head = 0; head < buffer.heads; head++) {
      const from = head * this.#layout.sinks * buffer.dim;
      const to = buffer.offset(head, 0);
      rotateRows(this.#sinkKeys, from, buffer.keys, to, this.#sinks, angles, buffer.dim / 2, true);
    }
  }
}
