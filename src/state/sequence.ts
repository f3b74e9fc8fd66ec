// Everything a runtime keeps of one sequence between steps: sinks, carry, pool, retrieved rows, and
// the open segment (SEMANTICS.md 1).
import { LockstepError } from '../errors.ts';
import { type Found, GroupState } from './group.ts';
import type { HeadGroup, Layout } from './layout.ts';
import { type Angles, anglesOf, type Rotation } from './rotation.ts';

/** What was retrieved from one long layer's pool at a boundary (SEMANTICS.md 4). */
export interface Retrieved {
  layer: number;
  /** Per long KV head of the layer (ascending): pool positions, ascending. Token = position + A. */
  positions: Int32Array[];
}

/** Bytes that a sequence holds between steps, by part. */
export interface SessionMemory {
  sinks: number;
  carry: number;
  pool: number;
  retrieved: number;
  /** The open segment's own keys and values (and recent queries). */
  open: number;
  total: number;
  /** What a full-attention KV cache of the same tokens would hold. */
  fullAttention: number;
}

/** Raw (unrotated) queries [T, Hq, D] and keys [T, H, D] of a piece in one group with a pool. */
export interface RawRows {
  queries: Float32Array;
  keys: Float32Array;
}

export class SequenceState {
  readonly layout: Layout;
  readonly rotation: Rotation;
  groups: GroupState[];
  /** Tokens run so far. */
  position = 0;
  /** First token of the open segment. */
  start = 0;

  constructor(layout: Layout, rotation: Rotation) {
    this.layout = layout;
    this.rotation = rotation;
    this.groups = layout.groups.map((group) => new GroupState(group, layout, rotation));
  }

  get openLength(): number {
    return this.position - this.start;
  }

  /**
   * Make room for the next `tokens` of the open segment.
   *
   * @returns cos and sin of their positions
   * @throws LS_STATE_LENGTH when they do not fit the segment
   */
  prepare(tokens: number): Angles {
    const room = this.layout.segment - this.openLength;
    if (tokens > room) {
      throw new LockstepError(
        'LS_STATE_LENGTH',
        `expected at most ${room} more tokens in the open segment, got ${tokens}`,
        { fix: 'Close the segment where the policy cuts.' },
      );
    }
    for (const state of this.groups) {
      const used = state.prefix + this.openLength;
      state.buffer.reserve(used + tokens, used);
    }
    return anglesOf(this.rotation, this.position, tokens);
  }

  /** The rows of `tokens` prepared tokens are in the buffers; `raw` gives those of groups with a pool. */
  advance(tokens: number, raw: (group: HeadGroup) => RawRows): void {
    for (const state of this.groups) {
      if (state.pool === null) continue;
      const { queries, keys } = raw(state.group);
      state.take(queries, keys, this.position, this.start, tokens);
    }
    this.position += tokens;
  }

  /**
   * Close the open segment: its end becomes a boundary.
   *
   * @param found by group, as `GroupState.close` takes it; groups without score all keys
   * @throws LS_STATE_EMPTY when it has no tokens
   */
  close(found?: ReadonlyMap<GroupState, Found>): Retrieved[] {
    if (this.openLength === 0) {
      throw new LockstepError(
        'LS_STATE_EMPTY',
        'expected tokens in the segment to close, got an empty one',
        { fix: 'Step at least one token before closing.' },
      );
    }
    const retrieved = new Map<number, Int32Array[]>();
    for (const state of this.groups) {
      const { layer } = state.group;
      const closing = { start: this.start, end: this.position };
      const positions = state.close(closing, found?.get(state));
      if (positions === null) continue;
      retrieved.set(layer, [...(retrieved.get(layer) ?? []), ...positions]);
    }
    this.start = this.position;
    return [...retrieved].map(([layer, positions]) => ({ layer, positions }));
  }

  /**
   * Go on with other pool positions than the last boundary retrieved.
   *
   * @throws LS_STATE_OPEN once the next segment has tokens; LS_STATE_POSITIONS when they do not fit
   */
  replaceRetrieved(retrieved: readonly Retrieved[]): void {
    if (this.openLength > 0 || this.position === 0) {
      throw new LockstepError(
        'LS_STATE_OPEN',
        `expected a fresh boundary, got a segment with ${this.openLength} tokens`,
        { fix: 'Replace retrieved rows right after a step that closed a segment.' },
      );
    }
    const selected = retrieved.flatMap(({ layer, positions }) => {
      const states = this.groups.filter((g) => g.pool !== null && g.group.layer === layer);
      const heads = states.reduce((sum, { group }) => sum + group.heads, 0);
      const size = states[0]?.eligible ?? 0;
      const fits = this.#counts(size);
      if (
        states.length === 0 ||
        positions.length !== heads ||
        !positions.every((list) => fits.has(list.length) && list.every((p) => p >= 0 && p < size))
      ) {
        throw new LockstepError(
          'LS_STATE_POSITIONS',
          `expected ${[...fits].join(' or ')} pool positions in 0..${size - 1} for each long head of layer ${layer}, got ${positions.map((list) => list.length).join(', ') || 'none'}`,
          { fix: 'Pass the positions that another runtime retrieved at the same boundary.' },
        );
      }
      let first = 0;
      return states.map((state) => {
        const own = positions.slice(first, first + state.group.heads);
        first += state.group.heads;
        return { state, positions: own };
      });
    });
    for (const { state, positions } of selected) state.retrieve(positions, this.position);
  }

  /** How many of `size` eligible rows a head may have retrieved. */
  #counts(size: number): Set<number> {
    const { retrieval, blocks } = this.layout;
    if (blocks === null || size <= retrieval) return new Set([Math.min(retrieval, size)]);
    const rest = size % blocks.block;
    // One that took the shorter last block has fewer.
    return new Set([retrieval, ...(rest > 0 ? [retrieval - blocks.block + rest] : [])]);
  }

  memory(): SessionMemory {
    const { kvHeads, headDim, layers } = this.layout;
    const fullAttention = this.position * layers * kvHeads * headDim * 2 * 4;
    const sum = { sinks: 0, carry: 0, pool: 0, retrieved: 0, open: 0 };
    for (const state of this.groups) {
      const part = state.memory();
      for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += part[name];
    }
    const total = sum.sinks + sum.carry + sum.pool + sum.retrieved + sum.open;
    return { ...sum, total, fullAttention };
  }

  /** The memory that it holds; forks share that of full pages of the pools. */
  *buffers(): Generator<ArrayBufferLike> {
    for (const group of this.groups) yield* group.buffers();
  }

  /** An independent copy; full pages of the pools are shared. */
  fork(): SequenceState {
    const fork = new SequenceState(this.layout, this.rotation);
    fork.groups = this.groups.map((state) => state.fork(this.openLength));
    fork.position = this.position;
    fork.start = this.start;
    return fork;
  }
}
