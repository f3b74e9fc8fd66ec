// What an engine remembers of prompts: states by the tokens that lead to them, the least used given up first.
import { createHash, type Hash } from 'node:crypto';
import type { Engine, EngineSession, Retrieved, StateSnapshot } from './engine.ts';
import type { MemoryFigures } from './runner.ts';

/** Boundaries on the way to a state, the last first; states that have a way in common share it. */
export interface Trail {
  at: number;
  retrieved: Retrieved[];
  before: Trail | null;
  /** States and trails that hold it. */
  holders: number;
}

/** A state that a prompt can continue from. */
export interface Remembered {
  /** Tokens that lead to it. */
  length: number;
  trail: Trail | null;
  /** Open a session that continues from this state. */
  open(): Promise<EngineSession>;
}

interface Entry {
  snapshot: StateSnapshot;
  length: number;
  trail: Trail | null;
}

/**
 * A state is a function of the tokens before it because it is only remembered where they ran in steps
 * that follow from them alone: continuing from it gives the numbers of a run from the start, to the bit.
 */
export class PrefixMemory implements MemoryFigures {
  readonly limit: number;
  readonly #engine: Engine;
  /** By the hash of their tokens, the least lately used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #coming = new Set<string>();
  /** How many states have each length. */
  readonly #lengths = new Map<number, number>();
  #trails = 0;
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
    return (this.#engine.snapshotBytes ?? 0) + this.#trails;
  }

  get states(): number {
    return this.#entries.size;
  }

  /**
   * The longest kept state for a beginning of these tokens. Open it at once: it may be evicted later.
   *
   * @param most tokens of it
   * @param silent no request waits for it: do not count it as a hit or a miss
   */
  find(tokens: Int32Array, most: number, silent = false): Remembered | null {
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
    const { snapshot, length, trail } = this.#touch(found);
    return { length, trail, open: () => snapshot.open() };
  }

  /** Keep the state of the session, unless it is already kept. */
  async remember(session: EngineSession, path: PrefixHash, trail: Trail | null): Promise<void> {
    const key = path.key();
    if (this.#entries.has(key)) this.#touch(key);
    if (this.#entries.has(key) || this.#coming.has(key) || this.#closed) return;
    const { length } = path;
    this.#coming.add(key);
    try {
      const snapshot = await session.snapshot?.();
      if (snapshot === undefined) return;
      if (this.#closed) return await snapshot.drop();
      this.#entries.set(key, { snapshot, length, trail });
    } finally {
      this.#coming.delete(key);
    }
    this.#lengths.set(length, (this.#lengths.get(length) ?? 0) + 1);
    this.#hold(trail);
    while (this.bytes > this.limit && this.#entries.size > 0) {
      this.evictions += 1;
      await this.#give(this.#entries.keys().next().value as string);
    }
  }

  /** Free everything. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#entries.keys()].map((key) => this.#give(key)));
  }

  #touch(key: string): Entry {
    const entry = this.#entries.get(key) as Entry;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  async #give(key: string): Promise<void> {
    const { snapshot, length, trail } = this.#entries.get(key) as Entry;
    this.#entries.delete(key);
    const others = (this.#lengths.get(length) as number) - 1;
    if (others > 0) this.#lengths.set(length, others);
    else this.#lengths.delete(length);
    this.#release(trail);
    await snapshot.drop();
  }

  #hold(trail: Trail | null): void {
    for (let one = trail; one !== null; one = one.before) {
      one.holders += 1;
      if (one.holders > 1) return;
      this.#trails += trailBytes(one);
    }
  }

  #release(trail: Trail | null): void {
    for (let one = trail; one !== null; one = one.before) {
      one.holders -= 1;
      if (one.holders > 0) return;
      this.#trails -= trailBytes(one);
    }
  }
}

function trailBytes({ retrieved }: Trail): number {
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
