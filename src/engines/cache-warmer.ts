// Generating an answer token by token rounds differently from running it as a prompt. So once a turn has ended
// and no request waits, the whole turn runs again as a prompt, and the next turn finds its state in the prefix cache.
import { type PlannerSource, Segmenter } from '../planner/index.ts';
import { CachedSequence, STEP_TOKENS } from './cached-sequence.ts';
import type { Engine } from './engine.ts';
import { PlannedCuts, pushInPieces } from './planned.ts';
import type { PrefixCache } from './prefix-cache.ts';

interface Warming {
  /** What runs again: a prompt that begins with it need not run it. */
  tokens: Int32Array;
  stop: AbortController;
  done: Promise<void>;
}

export class CacheWarmer {
  readonly #engine: Engine;
  readonly #source: PlannerSource;
  readonly #cache: PrefixCache;
  #warming: Warming | null = null;
  #closed = false;

  constructor(engine: Engine, source: PlannerSource, cache: PrefixCache) {
    this.#engine = engine;
    this.#source = source;
    this.#cache = cache;
  }

  /** Begin to run a turn and its answer again. What goes wrong shows at the next request. */
  warm(tokens: Int32Array): void {
    if (this.#closed || this.#warming !== null) return;
    const stop = new AbortController();
    const warming: Warming = { tokens, stop, done: Promise.resolve() };
    warming.done = this.#run(warming)
      .catch(() => {})
      .finally(() => {
        if (this.#warming === warming) this.#warming = null;
      });
    this.#warming = warming;
  }

  /** A prompt comes: what it begins with runs to its end, anything else stops at once. */
  async yieldTo(prompt: Int32Array, signal: AbortSignal): Promise<void> {
    const warming = this.#warming;
    if (warming === null) return;
    const { tokens, stop, done } = warming;
    const same = tokens.length <= prompt.length && tokens.every((id, i) => id === prompt[i]);
    if (!same) {
      stop.abort();
      return;
    }
    if (signal.aborted) return;
    let stopWaiting = (): void => {};
    const aborted = new Promise<void>((resolve) => {
      stopWaiting = resolve;
    });
    signal.addEventListener('abort', stopWaiting, { once: true });
    try {
      await Promise.race([done, aborted]);
    } finally {
      // The signal is also the server's, which lives on: a listener would keep the prompt with it.
      signal.removeEventListener('abort', stopWaiting);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#warming?.stop.abort();
    await this.#warming?.done;
  }

  async #run(warming: Warming): Promise<void> {
    const { stop } = warming;
    const cuts = await this.#plan(warming.tokens, stop.signal);
    // Where the last step ends that does not depend on what follows.
    const last = cuts.at(-1) ?? 0;
    const target = last + STEP_TOKENS * Math.floor((warming.tokens.length - last) / STEP_TOKENS);
    warming.tokens = warming.tokens.subarray(0, target);
    const { tokens } = warming;
    if (target === 0) return;
    const cached = await CachedSequence.open(
      this.#engine,
      this.#cache,
      tokens,
      target,
      new PlannedCuts(cuts),
      true,
    );
    const { sequence, length } = cached;
    try {
      const rest = tokens.subarray(length);
      const options = { rows: 'none' as const, pieceTokens: STEP_TOKENS, signal: stop.signal };
      for await (const ran of sequence.run(rest, options)) await cached.cacheAfter(ran);
    } finally {
      await sequence.close();
    }
  }

  /** The turn's cuts. */
  async #plan(tokens: Int32Array, stop: AbortSignal): Promise<number[]> {
    const segmenter = new Segmenter(this.#source);
    try {
      return await pushInPieces(segmenter, tokens, stop);
    } finally {
      segmenter.close();
    }
  }
}
