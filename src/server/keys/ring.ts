// The keys of a running server: who a key belongs to, and how the file is read again.
import { timingSafeEqual } from 'node:crypto';
import { busy } from '../errors.ts';
import type { Caller } from './caller.ts';
import { readKeys } from './file.ts';
import type { KeyEntry } from './format.ts';
import { digest, idOf, matches } from './secret.ts';

/** At most so many keys wait to be compared: each takes some 50 ms of a core. */
const MOST_WAITING = 64;

/** A key that may be shown, and what is known of it. */
interface Held {
  caller: Caller;
  hash: string;
  /** SHA-256 of the key, once one was shown that fits the hash. From then on no scrypt is needed. */
  seen: Buffer | null;
}

/** What a reload changed, by name. */
export interface KeysChange {
  keys: number;
  added: string[];
  removed: string[];
}

export class KeyRing {
  readonly file: string;
  #held: ReadonlyMap<string, Held>;
  #waiting = 0;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(file: string, keys: readonly KeyEntry[]) {
    this.file = file;
    this.#held = holding(keys, new Map());
  }

  /** @throws LS_KEYS_FILE, LS_KEYS_MODE, LS_KEYS_FORMAT */
  static async open(file: string): Promise<KeyRing> {
    return new KeyRing(file, await readKeys(file));
  }

  get size(): number {
    return this.#held.size;
  }

  /**
   * Read the file again. A key that is gone from it opens nothing any more; answers that it began continue.
   *
   * @throws LS_KEYS_FILE, LS_KEYS_MODE, LS_KEYS_FORMAT; the keys stay as they were then
   */
  async reload(): Promise<KeysChange> {
    const before = this.#held;
    const after = holding(await readKeys(this.file), before);
    this.#held = after;
    const names = (held: ReadonlyMap<string, Held>, other: ReadonlyMap<string, Held>) =>
      [...held].filter(([id]) => !other.has(id)).map(([, { caller }]) => caller.name);
    return { keys: after.size, added: names(after, before), removed: names(before, after) };
  }

  /** Whose the key with this id is; null where the file has it no longer. */
  callerOf(id: string): Caller | null {
    return this.#held.get(id)?.caller ?? null;
  }

  /** Whether scrypt must run to judge this key. */
  isCostly(key: string): boolean {
    const held = this.#held.get(idOf(key) ?? '');
    return held !== undefined && held.seen === null;
  }

  /**
   * Whose key this is; null for nobody's.
   *
   * @throws HttpError 429 when too many keys wait to be compared
   */
  async find(key: string): Promise<Caller | null> {
    const id = idOf(key);
    const held = id === null ? undefined : this.#held.get(id);
    if (id === null || held === undefined) return null;
    const given = digest(key);
    if (held.seen === null) {
      const fits = await this.#compared(key, held, given);
      // The file may have been read again meanwhile: only a key that is in it now opens anything.
      if (!fits || this.#held.get(id)?.hash !== held.hash) return null;
      return this.#held.get(id)?.caller ?? null;
    }
    return timingSafeEqual(given, held.seen) ? held.caller : null;
  }

  /** One scrypt at a time, so that the engine's threads keep their cores. */
  async #compared(key: string, held: Held, given: Buffer): Promise<boolean> {
    if (this.#waiting >= MOST_WAITING) {
      throw busy('Expected fewer new keys at once; too many wait to be compared.', 1);
    }
    this.#waiting += 1;
    const mine = this.#turn.then(async () => {
      // Another request with this key may have been first.
      if (held.seen !== null) return timingSafeEqual(given, held.seen);
      const fits = await matches(key, held.hash);
      if (fits) held.seen = given;
      return fits;
    });
    this.#turn = mine.catch(() => {});
    try {
      return await mine;
    } finally {
      this.#waiting -= 1;
    }
  }
}

/** Entries by id. What was learnt of a key stays known where its hash stays the same. */
function holding(
  keys: readonly KeyEntry[],
  before: ReadonlyMap<string, Held>,
): ReadonlyMap<string, Held> {
  return new Map(
    keys.map(({ id, name, hash, limits = {}, metrics = false }) => {
      const was = before.get(id);
      const seen = was?.hash === hash ? was.seen : null;
      return [id, { caller: { name, id, limits, operator: metrics }, hash, seen }];
    }),
  );
}
