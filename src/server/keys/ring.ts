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
interface KnownKey {
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
  #keys: ReadonlyMap<string, KnownKey>;
  #waiting = 0;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(file: string, keys: readonly KeyEntry[]) {
    this.file = file;
    this.#keys = keysById(keys, new Map());
  }

  /** @throws LS_KEYS_FILE, LS_KEYS_MODE, LS_KEYS_FORMAT */
  static async open(file: string): Promise<KeyRing> {
    return new KeyRing(file, await readKeys(file));
  }

  get size(): number {
    return this.#keys.size;
  }

  /**
   * Read the file again. A key that is gone from it opens nothing any more; answers that it began continue.
   *
   * @throws LS_KEYS_FILE, LS_KEYS_MODE, LS_KEYS_FORMAT; the keys stay as they were then
   */
  async reload(): Promise<KeysChange> {
    const before = this.#keys;
    const after = keysById(await readKeys(this.file), before);
    this.#keys = after;
    const names = (keys: ReadonlyMap<string, KnownKey>, other: ReadonlyMap<string, KnownKey>) =>
      [...keys].filter(([id]) => !other.has(id)).map(([, { caller }]) => caller.name);
    return { keys: after.size, added: names(after, before), removed: names(before, after) };
  }

  /** Whose the key with this id is; null where the file has it no longer. */
  callerOf(id: string): Caller | null {
    return this.#keys.get(id)?.caller ?? null;
  }

  /** Whether scrypt must run to judge this key. */
  isCostly(key: string): boolean {
    const known = this.#keys.get(idOf(key) ?? '');
    return known !== undefined && known.seen === null;
  }

  /**
   * Whose key this is; null for nobody's.
   *
   * @throws HttpError 429 when too many keys wait to be compared
   */
  async find(key: string): Promise<Caller | null> {
    const id = idOf(key);
    const known = id === null ? undefined : this.#keys.get(id);
    if (id === null || known === undefined) return null;
    const given = digest(key);
    if (known.seen === null) {
      const fits = await this.#compared(key, known, given);
      // The file may have been read again meanwhile: only a key that is in it now opens anything.
      if (!fits || this.#keys.get(id)?.hash !== known.hash) return null;
      return this.#keys.get(id)?.caller ?? null;
    }
    return timingSafeEqual(given, known.seen) ? known.caller : null;
  }

  /** One scrypt at a time, so that the engine's threads keep their cores. */
  async #compared(key: string, known: KnownKey, given: Buffer): Promise<boolean> {
    if (this.#waiting >= MOST_WAITING) {
      throw busy('Expected fewer new keys at once; too many wait to be compared.', 1);
    }
    this.#waiting += 1;
    const mine = this.#turn.then(async () => {
      // Another request with this key may have been first.
      if (known.seen !== null) return timingSafeEqual(given, known.seen);
      const fits = await matches(key, known.hash);
      if (fits) known.seen = given;
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
function keysById(
  keys: readonly KeyEntry[],
  before: ReadonlyMap<string, KnownKey>,
): ReadonlyMap<string, KnownKey> {
  return new Map(
    keys.map(({ id, name, hash, limits = {}, metrics = false }) => {
      const was = before.get(id);
      const seen = was?.hash === hash ? was.seen : null;
      return [id, { caller: { name, id, limits, operator: metrics }, hash, seen }];
    }),
  );
}
