// Which replica gets a prompt: the one that has its segments, as long as it is not much busier.
import { createHash } from 'node:crypto';

/** Points of each replica on the ring: enough that shares differ by about a tenth. */
const POINTS = 128;

/** How much more than its share a replica may hold before a prompt goes to another. */
const BOUND = 1.25;

/** Most prefixes whose replica is known. */
const MOST_PREFIXES = 65_536;

/** What routing looks at in a replica. */
export interface Routed {
  readonly name: string;
  readonly ready: boolean;
  /** Requests that it runs now. */
  readonly running: number;
}

/**
 * Hashes of a prompt's prefixes that end on a boundary, the shortest first; of the whole prompt where
 * none does. Two prompts share a hash where they share the tokens of that many segments.
 *
 * @param cuts decided boundaries, ascending
 * @param adapter what runs over the model: no two share what they computed
 */
export function prefixKeys(prompt: Int32Array, cuts: readonly number[], adapter = ''): string[] {
  const hash = createHash('sha256').update(`${adapter}\0`);
  const keys: string[] = [];
  let from = 0;
  for (const cut of cuts.length === 0 ? [prompt.length] : cuts) {
    hash.update(new Uint8Array(prompt.buffer, prompt.byteOffset + 4 * from, 4 * (cut - from)));
    keys.push(hash.copy().digest('base64'));
    from = cut;
  }
  return keys;
}

/**
 * Consistent hashing with bounded load, and a table of what went where.
 *
 * A prompt goes to the replica that last took its longest known prefix; a new one to its place on
 * the ring, found by its first segment, so that prompts that begin alike meet even before anything is
 * known. A replica that holds more than 1.25 of its share is passed over, along the ring.
 */
export class Router<R extends Routed> {
  readonly #replicas: readonly R[];
  readonly #ring: { at: number; replica: R }[];
  readonly #routes = new Map<string, R>();

  constructor(replicas: readonly R[]) {
    this.#replicas = replicas;
    this.#ring = replicas
      .flatMap((replica) =>
        Array.from({ length: POINTS }, (_, i) => ({ at: place(`${replica.name}#${i}`), replica })),
      )
      .sort((a, b) => a.at - b.at);
  }

  /** Replicas in the order in which to try them; ready ones only. */
  order(keys: readonly string[]): R[] {
    const ready = this.#replicas.filter((replica) => replica.ready);
    if (ready.length < 2) return ready;
    const known = keys.findLast((key) => this.#routes.get(key)?.ready === true);
    const along = this.#along(place(keys[0] ?? ''));
    const home = known === undefined ? undefined : this.#routes.get(known);
    const wanted = home === undefined ? along : [home, ...along.filter((one) => one !== home)];
    const running = ready.reduce((sum, replica) => sum + replica.running, 0);
    const most = Math.ceil((BOUND * (running + 1)) / ready.length);
    const free = wanted.filter((replica) => replica.running < most);
    return [...free, ...wanted.filter((replica) => !free.includes(replica))];
  }

  /** Note that a replica now has the segments of these prefixes. */
  took(keys: readonly string[], replica: R): void {
    for (const key of keys) {
      this.#routes.delete(key);
      this.#routes.set(key, replica);
    }
    for (const oldest of this.#routes.keys()) {
      if (this.#routes.size <= MOST_PREFIXES) break;
      this.#routes.delete(oldest);
    }
  }

  /** A restarted replica has no segments in its cache. */
  forget(replica: R): void {
    for (const [key, held] of this.#routes) if (held === replica) this.#routes.delete(key);
  }

  /** Every ready replica once, in the order of the ring from a place on. */
  #along(from: number): R[] {
    const first = this.#ring.findIndex(({ at }) => at >= from);
    const turned = [
      ...this.#ring.slice(Math.max(0, first)),
      ...this.#ring.slice(0, Math.max(0, first)),
    ];
    return [...new Set(turned.map(({ replica }) => replica))].filter((replica) => replica.ready);
  }
}

/** A place on the ring: 48 bits of a hash. */
function place(text: string): number {
  return createHash('sha256').update(text).digest().readUIntBE(0, 6);
}
