// One sequence on an engine: the planner says where a segment ends, the session runs it.
import type { Segmenter } from '../planner/index.ts';
import type { EngineSession, Rows, StepResult } from './engine.ts';
import type { RunStep } from './step-scheduler.ts';

/** The part of a `Segmenter` that running a sequence needs. */
export type BoundarySource = Pick<Segmenter, 'push' | 'pushMany' | 'close'>;

/** Tokens that have run: a piece of one segment. */
export interface StepOutput {
  /** Position of the first of them in the sequence. */
  from: number;
  tokens: Int32Array;
  /** [rows, vocabulary]. */
  logits: Float32Array;
  rows: number;
  /** Set where the segment ended with these tokens. */
  boundary: StepResult['boundary'];
}

export interface RunOptions {
  /** Logits of every token, of the last of all, or of none (default `last`). */
  rows?: Rows;
  /** Stop before the next piece, and do not wait for the one that runs. */
  signal?: AbortSignal | undefined;
  /** Most tokens of one step (default 512): short enough to report progress often. */
  pieceTokens?: number;
  /** Runs each step when it is due (default: at once). */
  runStep?: RunStep | undefined;
}

export interface FeedOptions extends RunOptions {
  onBoundary?: (boundary: NonNullable<StepResult['boundary']>) => void;
}

/** Runs tokens through a session, closing segments where the policy cuts. */
export class Sequence {
  readonly session: EngineSession;
  readonly #boundaries: BoundarySource;
  #position = 0;

  /** Takes over both: `close` frees them. They must stand at the same position. */
  constructor(session: EngineSession, boundaries: BoundarySource, position = 0) {
    this.session = session;
    this.#boundaries = boundaries;
    this.#position = position;
  }

  /** Tokens run so far. */
  get position(): number {
    return this.#position;
  }

  /**
   * Run the next tokens; gives what ran, piece by piece.
   *
   * @throws LS_POLICY_*, LS_PLAN_TOKEN, LS_ENGINE_*; the signal's reason. The sequence cannot continue.
   */
  async *run(
    tokens: ArrayLike<number>,
    options: RunOptions = {},
  ): AsyncGenerator<StepOutput, void> {
    const { rows = 'last', signal, pieceTokens = 512, runStep } = options;
    const ids = Int32Array.from(tokens);
    const start = this.#position;
    // Cuts are asked for step by step: those of a whole prompt at once would hold up the event loop.
    const cuts: number[] = [];
    let asked = 0;
    for (let at = 0; at < ids.length; ) {
      signal?.throwIfAborted();
      const whole = Math.min(ids.length, at + pieceTokens);
      if (asked < whole) {
        cuts.push(
          ...this.#boundaries.pushMany(ids.subarray(asked, whole)).map((cut) => cut - start),
        );
        asked = whole;
      }
      const cut = cuts[0];
      const end = Math.min(cut ?? whole, whole);
      const close = end === cut;
      if (close) cuts.shift();
      const wanted = rows === 'last' && end < ids.length ? 'none' : rows;
      const piece = ids.slice(at, end);
      const from = this.#position;
      const step = () => this.session.step(piece, { rows: wanted, close });
      const result = await unlessAborted(
        runStep === undefined ? step() : runStep(step, signal),
        signal,
      );
      this.#position += piece.length;
      at = end;
      yield { from, tokens: piece, ...result };
    }
  }

  /** Run the next tokens; the last piece's logits, as `rows` says. */
  async feed(tokens: ArrayLike<number>, options: FeedOptions = {}): Promise<Float32Array> {
    let logits: Float32Array = new Float32Array(0);
    for await (const ran of this.run(tokens, options)) {
      if (ran.boundary !== null) options.onBoundary?.(ran.boundary);
      logits = ran.logits;
    }
    return logits;
  }

  /** Free session and segmenter. Idempotent. */
  async close(): Promise<void> {
    this.#boundaries.close();
    await this.session.close();
  }
}

async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  let stop = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
  });
  // Whichever loses the race may fail later: ignore that.
  work.catch(() => {});
  aborted.catch(() => {});
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
