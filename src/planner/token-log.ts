// The tokens of one sequence since it began: with them a failure is run again to find its place.

/** Tokens kept of a sequence, at most: 16 MiB. A longer one has failures without a place. */
const most = 1 << 22;

export class TokenLog {
  /** Snapshot that the sequence began from; undefined for a sequence that began empty. */
  readonly snapshot: string | undefined;
  #ids = new Int32Array(64);
  #length = 0;
  #whole = true;

  constructor(snapshot?: string) {
    this.snapshot = snapshot;
  }

  /** Add tokens [from, to) of a list. */
  add(tokens: ArrayLike<number>, from: number, to: number): void {
    if (!this.#whole) return;
    const length = this.#length + to - from;
    if (length > most) {
      this.#whole = false;
      this.#ids = new Int32Array(0);
      return;
    }
    if (length > this.#ids.length) {
      const larger = new Int32Array(Math.min(most, Math.max(length, 2 * this.#ids.length)));
      larger.set(this.#ids);
      this.#ids = larger;
    }
    if (tokens instanceof Int32Array) this.#ids.set(tokens.subarray(from, to), this.#length);
    else for (let i = from; i < to; i++) this.#ids[this.#length + i - from] = tokens[i] as number;
    this.#length = length;
  }

  /** The tokens; undefined where they became too many. */
  tokens(): Int32Array | undefined {
    return this.#whole ? this.#ids.subarray(0, this.#length) : undefined;
  }
}
