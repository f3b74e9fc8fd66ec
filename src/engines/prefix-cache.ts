// The prefix cache of an engine: states by the tokens that lead to them, the least recently used evicted first.
import { createHash, type Hash } from 'node:crypto';
import type { Engine, EngineSession, Retrieved, StateSnapshot } from './engine.ts';
import type { PrefixCacheStats } from './runner.ts';

/** Boundaries before a state, the last first; states with a common prefix share its part. */
export interface BoundaryChain {
  at: number;
  retrieved: Retrieved[];
  before: BoundaryChain | null;
  /** States and chains that refer to it. */
  references: number;
}

/** A cached state that a prompt can continue from. */
export interface CachedPrefix {
  /** Tokens that lead to it. */
  length: number;
  boundaries: BoundaryChain | null;
  /** Open a session that continues from this state. */
  open(): Promise<EngineSession>;
}

interface Entry {
  snapshot: StateSnapshot;
  length: number;
  boundaries: BoundaryChain | null;
}

/**
 * A state is a function of the tokens before it because it is only cached where they ran in steps
 * that follow from them alone: continuing from it gives the numbers of a run from the start, to the bit.
 */
export class PrefixCache implements PrefixCacheStats {
  readonly limit: number;
  readonly #engine: Engine;
  /** By the hash of their tokens, the least lately used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #pending = new Set<string>();
  /** How many states have each length. */
  readonly #lengths = new Map<number, number>();
  #chainBytes = 0;
  #closed = false;
  hits = 0;
  misses = 0;
  evictions = 0;

  /** @param limit most bytes */
  constructor(engine: Engine, limit: number) {
    this.#engine = engine;
    this.limit = limit;
  }

  get bytes(): number {
    return (this.#engine.snapshotBytes ?? 0) + this.#chainBytes;
  }

  get states(): number {
    return this.#entries.size;
  }

  /**
   * The longest cached state for a beginning of these tokens. Open it at once: it may be evicted later.
   *
   * @param most tokens of it
   * @param silent no request waits for it: do not count it as a hit or a miss
   */
  find(tokens: Int32Array, most: number, silent = false): CachedPrefix | null {
    const lengths = [...this.#lengths.keys()].filter((length) => length <= most);
    lengths.sort((a, b) => a - b);
    const path = new PrefixHash();
    let found: string | null = null;
    for (const length of lengths) {
      path.push(tokens.subarray(path.length, length));
      const key = path.key();
      if (this.#entries.has(key)) found = key;
    }
    if (found === null) {
      if (!silent) this.misses += 1;
      return null;
    }
    if (!silent) this.hits += 1;
    const { snapshot, length, boundaries } = this.#touch(found);
    return { length, boundaries, open: () => snapshot.open() };
  }

  /** Cache the state of the session, unless it is cached already. */
  async store(
    session: EngineSession,
    path: PrefixHash,
    boundaries: BoundaryChain | null,
  ): Promise<void> {
    const key = path.key();
    if (this.#entries.has(key)) this.#touch(key);
    if (this.#entries.has(key) || this.#pending.has(key) || this.#closed) return;
    const { length } = path;
    this.#pending.add(key);
    try {
      const snapshot = await session.snapshot?.();
      if (snapshot === undefined) return;
      if (this.#closed) return await snapshot.drop();
      this.#entries.set(key, { snapshot, length, boundaries });
    } finally {
      this.#pending.delete(key);
    }
    this.#lengths.set(length, (this.#lengths.get(length) ?? 0) + 1);
    this.#retain(boundaries);
    while (this.bytes > this.limit && this.#entries.size > 0) {
      this.evictions += 1;
      await this.#evict(this.#entries.keys().next().value as string);
    }
  }

  /** Free everything. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#entries.keys()].map((key) => this.#evict(key)));
  }

  #touch(key: string): Entry {
    const entry = this.#entries.get(key) as Entry;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  async #evict(key: string): Promise<void> {
    const { snapshot, length, boundaries } = this.#entries.get(key) as Entry;
    this.#entries.delete(key);
    const others = (this.#lengths.get(length) as number) - 1;
    if (others > 0) this.#lengths.set(length, others);
    else this.#lengths.delete(length);
    this.#release(boundaries);
    await snapshot.drop();
  }

  #retain(boundaries: BoundaryChain | null): void {
    for (let one = boundaries; one !== null; one = one.before) {
      one.references += 1;
      if (one.references > 1) return;
      this.#chainBytes += boundaryBytes(one);
    }
  }

  #release(boundaries: BoundaryChain | null): void {
    for (let one = boundaries; one !== null; one = one.before) {
      one.references -= 1;
      if (one.references > 0) return;
      this.#chainBytes -= boundaryBytes(one);
    }
  }
}

function boundaryBytes({ retrieved }: BoundaryChain): number {
  const lists = retrieved.flatMap(({ positions }) => positions);
  return lists.reduce((sum, list) => sum + list.byteLength, 0);
}

/** The hash of a sequence's first tokens, as they come. */
export class PrefixHash {
  readonly #hash: Hash = createHash('sha256');
  length = 0;

  push(tokens: Int32Array): void {
    this.#hash.update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength));
    this.length += tokens.length;
  }

  key(): string {
    return this.#hash.copy().digest('base64');
  }
}
