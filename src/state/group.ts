// The state of one head group: its rows (prefix, then the open segment), and what a boundary makes of
// them (SEMANTICS.md 2).
import { atDistance, blockMasses, heaviest, type PartialMass, partialMass } from './blocks.ts';
import type { HeadGroup, Layout } from './layout.ts';
import { rowLimit } from './layout.ts';
import { Pool, pageRows } from './pool.ts';
import { RecentQueries } from './queries.ts';
import { recentOf, selectHead } from './retrieval.ts';
import { anglesOf, type Rotation, rotateRows } from './rotation.ts';
import { RowBuffer } from './rows.ts';
import type { KeyChunk, Products } from './scores.ts';

/** Where a closed segment began and ended. */
export interface Closing {
  start: number;
  end: number;
}

/** What was computed beforehand for a boundary, as a quicker way to the same. */
export interface Found {
  /** `anchors`: products of `queryVectors` of all heads and each page, [heads, vectors, rows]. */
  products?: readonly Products[] | undefined;
  /** `blocks`: what `scoring` asks for, by chunk. */
  parts?: readonly PartialMass[] | undefined;
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
  /** Rows of the prefix that are the carry: its last ones. */
  #carried = 0;

  constructor(group: HeadGroup, layout: Layout, rotation: Rotation) {
    this.group = group;
    this.#layout = layout;
    this.#rotation = rotation;
    this.buffer = new RowBuffer(group.heads, layout.headDim, rowLimit(layout, group));
    this.#sinkKeys = new Float32Array(group.heads * layout.sinks * layout.headDim);
    if (group.prefix === 'long') {
      const { headDim, blocks, recipe } = layout;
      const perHead = layout.queryHeads / layout.kvHeads;
      const rows = blocks === null ? pageRows : pageOf(blocks.block);
      this.pool = new Pool(group.heads, headDim, rows);
      this.queries =
        blocks === null
          ? new RecentQueries(group.heads, perHead, headDim, recentOf(recipe))
          : new RecentQueries(group.heads * perHead, 1, headDim, blocks.window);
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

  /** Whether its prefix ends in the carry. */
  get carries(): boolean {
    const { prefix } = this.group;
    return prefix === 'local' || (prefix === 'long' && this.#layout.allCarry);
  }

  /** How many of the pool's rows, from its first, may be retrieved: the carry is seen anyway. */
  get eligible(): number {
    const stored = this.pool?.length ?? 0;
    return this.carries ? Math.max(0, stored - this.#layout.carry) : stored;
  }

  /**
   * For `blocks`, where there is a choice: queries [rows, dim] whose products are logits, and the
   * eligible keys in chunks of whole blocks, and at their end the shorter one.
   */
  scoring(): { queries: Float32Array; chunks: KeyChunk[]; block: number } | null {
    const { pool, queries, eligible } = this;
    const { blocks, retrieval, headDim, queryHeads, kvHeads } = this.#layout;
    if (pool === null || queries === null || blocks === null) return null;
    if (eligible <= retrieval || retrieval === 0) return null;
    const heads = Array.from({ length: queryHeads / kvHeads }, (_, head) => queries.of(head));
    const raw = new Float32Array(heads.reduce((sum, rows) => sum + rows.length, 0));
    heads.forEach((rows, head) => {
      raw.set(rows, head * rows.length);
    });
    const chunks = pool.keyChunks(0, eligible).flatMap(({ data, rows }): KeyChunk[] => {
      const whole = rows - (rows % blocks.block);
      const rest = { data: data.subarray(whole * headDim), rows: rows - whole };
      return [{ data, rows: whole }, rest].filter((chunk) => chunk.rows > 0);
    });
    const asked = atDistance(raw, headDim, blocks.distance, this.#rotation);
    return { queries: asked, chunks, block: blocks.block };
  }

  /**
   * Make the next segment's prefix of a closed segment [start, end).
   *
   * @returns the selected pool positions per head, or null for a group without a pool
   */
  close({ start, end }: Closing, found: Found = {}): Int32Array[] | null {
    const { sinks, carry } = this.#layout;
    const used = this.prefix + end - start;
    const kept = Math.min(sinks, end);
    // While sinks are still coming in there is no carry and no pool: the values are in place.
    this.#keepSinks(start, kept);
    const carried = this.carries ? Math.max(0, Math.min(carry, end - sinks)) : 0;
    if (this.pool === null || this.queries === null) {
      this.buffer.moveRows(used - carried, kept, carried);
      this.#carried = carried;
      this.prefix = kept + carried;
      this.#placeSinks(end);
      return null;
    }
    const positions = this.#select(this.pool, this.queries, found);
    this.queries.clear();
    this.#place(positions, end, used - carried, carried);
    return positions;
  }

  /** Put these pool rows after the sinks, for a segment that starts at `end`. */
  retrieve(positions: readonly Int32Array[], end: number): void {
    this.#place(positions, end, this.prefix - this.#carried, this.#carried);
  }

  /** The prefix of a segment at `end`: sinks, pool rows, the carry now at rows [from, from + carried). */
  #place(positions: readonly Int32Array[], end: number, from: number, carried: number): void {
    const { pool, buffer } = this;
    if (pool === null) throw new Error('expected a group with a pool');
    const count = positions[0]?.length ?? 0;
    const kept = this.#sinks;
    this.prefix = kept + count + carried;
    this.#carried = carried;
    buffer.reserve(this.prefix, Math.max(kept, from + carried));
    // Keys of the carry keep their rotation: it is contiguous with the segment.
    buffer.moveRows(from, kept + count, carried);
    const angles = anglesOf(this.#rotation, end - carried - count, count);
    for (let head = 0; head < buffer.heads; head++) {
      const selected = positions[head] as Int32Array;
      const at = buffer.offset(head, kept);
      for (let row = 0; row < count; row++) {
        const target = at + row * buffer.dim;
        pool.copyRow(head, selected[row] as number, buffer.keys, buffer.values, target);
      }
      rotateRows(buffer.keys, at, buffer.keys, at, count, angles, buffer.dim / 2);
    }
    this.#placeSinks(end);
  }

  /** Bytes by part; `open` is everything in the buffer beyond the prefix, and the queries. */
  memory(): { sinks: number; carry: number; pool: number; retrieved: number; open: number } {
    const { buffer } = this;
    return {
      sinks: buffer.bytesOf(this.#sinks) + this.#sinkKeys.byteLength,
      carry: buffer.bytesOf(this.#carried),
      pool: this.pool?.bytes ?? 0,
      retrieved: buffer.bytesOf(this.prefix - this.#sinks - this.#carried),
      open: buffer.bytes - buffer.bytesOf(this.prefix) + (this.queries?.bytes ?? 0),
    };
  }

  /** The memory that it holds. */
  *buffers(): Generator<ArrayBufferLike> {
    yield this.buffer.keys.buffer;
    yield this.buffer.values.buffer;
    yield this.#sinkKeys.buffer;
    if (this.queries !== null) yield this.queries.buffer;
    if (this.pool !== null) yield* this.pool.buffers();
  }

  /** An independent copy; `open` tokens of the segment are in the buffer. */
  fork(open: number): GroupState {
    const fork = new GroupState(this.group, this.#layout, this.#rotation);
    fork.buffer = this.buffer.fork(this.prefix + open);
    fork.prefix = this.prefix;
    fork.pool = this.pool?.fork() ?? null;
    fork.queries = this.queries?.fork() ?? null;
    fork.#sinkKeys = this.#sinkKeys.slice();
    fork.#sinks = this.#sinks;
    fork.#carried = this.#carried;
    return fork;
  }

  #select(pool: Pool, queries: RecentQueries, { products, parts }: Found): Int32Array[] {
    const { retrieval, recipe, blocks } = this.#layout;
    const { eligible } = this;
    if (blocks !== null) {
      const asked = this.scoring();
      const rows = Math.min(eligible, retrieval);
      if (asked === null) return [Int32Array.from({ length: rows }, (_, position) => position)];
      const own = (chunk: KeyChunk) => partialMass(asked.queries, chunk, pool.dim, asked.block);
      const masses = blockMasses(parts ?? asked.chunks.map(own));
      return [heaviest(masses, eligible, retrieval, blocks.block)];
    }
    return Array.from({ length: pool.heads }, (_, head) => {
      const chunks = pool.keyChunks(head, eligible);
      const own = products?.slice(0, chunks.length).map((page) => {
        const size = page.length / pool.heads;
        return page.subarray(head * size, (head + 1) * size);
      });
      return selectHead(queries.of(head), chunks, pool.dim, retrieval, recipe, own);
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

/** Rows of a pool's page that holds whole blocks. */
function pageOf(block: number): number {
  return block * Math.max(1, Math.floor(blockPageRows / block));
}

const blockPageRows = 512;
