// The open sessions of an engine: how many there are, how long each is, and whether it can still be used.
import { LockstepError } from '../errors.ts';

export interface RegistryOptions {
  /** Sessions open at once (default 64). */
  maxSessions?: number | undefined;
  /** Tokens one session may hold (default: no limit). */
  maxTokens?: number | undefined;
}

/** The open sessions of one engine. */
export class SessionRegistry {
  readonly #maxSessions: number;
  readonly #maxTokens: number;
  readonly #vocabulary: number;
  readonly #leases = new Set<SessionLease>();

  constructor(vocabulary: number, { maxSessions = 64, maxTokens }: RegistryOptions) {
    this.#vocabulary = vocabulary;
    this.#maxSessions = maxSessions;
    this.#maxTokens = maxTokens ?? Number.POSITIVE_INFINITY;
  }

  /** Sessions open or being made. */
  get size(): number {
    return this.#leases.size;
  }

  /**
   * Register a session, then make it; it is released if that fails.
   *
   * @param length tokens that it holds already
   * @throws LS_ENGINE_SESSIONS; what `make` throws
   */
  async open<T>(length: number, make: (lease: SessionLease) => Promise<T>): Promise<T> {
    if (this.#leases.size >= this.#maxSessions) {
      throw new LockstepError(
        'LS_ENGINE_SESSIONS',
        `expected at most ${this.#maxSessions} open sessions, got one more`,
        { fix: 'Close a session, or open the engine with a larger maxSessions.' },
      );
    }
    const limits = { maxTokens: this.#maxTokens, vocabulary: this.#vocabulary };
    const lease = new SessionLease(length, limits, () => this.#leases.delete(lease));
    this.#leases.add(lease);
    try {
      return await make(lease);
    } catch (error) {
      lease.release();
      throw error;
    }
  }

  /** The engine closes: nobody has a session any more. */
  clear(): void {
    this.#leases.clear();
  }
}

/** The registry's entry of one session. */
export class SessionLease {
  #length: number;
  #broken: LockstepError | undefined;
  #released = false;
  readonly #limits: { maxTokens: number; vocabulary: number };
  readonly #onRelease: () => void;

  constructor(
    length: number,
    limits: { maxTokens: number; vocabulary: number },
    onRelease: () => void,
  ) {
    this.#length = length;
    this.#limits = limits;
    this.#onRelease = onRelease;
  }

  /** Tokens given to it so far. */
  get length(): number {
    return this.#length;
  }

  /** @throws LS_ENGINE_SESSION for one that is closed or whose last step failed */
  check(): void {
    if (this.#broken !== undefined) throw this.#broken;
    if (this.#released) throw closedSession();
  }

  /**
   * Run a step of these tokens; one that fails leaves the session unusable.
   *
   * @throws LS_ENGINE_SESSION, LS_ENGINE_LIMIT, LS_ENGINE_TOKEN before anything has run; what `run` throws
   */
  async step<T>(tokens: ArrayLike<number>, run: (ids: Int32Array) => Promise<T>): Promise<T> {
    this.check();
    const ids = this.#validated(tokens);
    try {
      const result = await run(ids);
      // A close that came first wins, however fast the step was.
      if (this.#released) throw closedSession();
      return result;
    } catch (cause) {
      this.#broken ??= new LockstepError(
        'LS_ENGINE_SESSION',
        'expected a usable session, got one whose last step failed',
        { fix: 'Close it and open a new one.', cause },
      );
      throw cause;
    }
  }

  /** Take it out of the registry. Idempotent. */
  release(): void {
    this.#released = true;
    this.#onRelease();
  }

  #validated(tokens: ArrayLike<number>): Int32Array {
    const { maxTokens, vocabulary } = this.#limits;
    const length = this.#length + tokens.length;
    if (length > maxTokens) {
      throw new LockstepError(
        'LS_ENGINE_LIMIT',
        `expected at most ${maxTokens} tokens in a session, got ${length}`,
        { fix: 'Shorten the prompt, or open the engine with a larger maxTokens.' },
      );
    }
    for (let at = 0; at < tokens.length; at++) {
      const id = tokens[at] as number;
      if (Number.isInteger(id) && id >= 0 && id < vocabulary) continue;
      throw new LockstepError(
        'LS_ENGINE_TOKEN',
        `expected token ids in 0..${vocabulary - 1}, got ${id} at ${at}`,
        { fix: "Tokenize with the checkpoint's own tokenizer.json." },
      );
    }
    this.#length = length;
    return Int32Array.from(tokens);
  }
}

function closedSession(): LockstepError {
  return new LockstepError('LS_ENGINE_SESSION', 'expected an open session, got a closed one');
}
