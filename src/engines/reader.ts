// Generating an answer token by token rounds differently from running it as a prompt. So once a turn has
// ended and no request waits, the whole turn runs again as a prompt, and the next turn finds its state cached.
import { type PlannerSource, Segmenter } from '../planner/index.ts';
import type { Engine } from './engine.ts';
import type { PrefixMemory } from './memory.ts';
import { PlannedCuts, pushInPieces } from './planned.ts';
import { RememberedSequence, STEP_TOKENS } from './remembering.ts';

interface Reading {
  /** What is read: a prompt that begins with it need not read it again. */
  tokens: Int32Array;
  leave: AbortController;
  done: Promise<void>;
}

export class AnswerReader {
  readonly #engine: Engine;
  readonly #source: PlannerSource;
  readonly #memory: PrefixMemory;
  #reading: Reading | null = null;
  #closed = false;

  constructor(engine: Engine, source: PlannerSource, memory: PrefixMemory) {
    this.#engine = engine;
    this.#source = source;
    this.#memory = memory;
  }

  /** Begin to read a turn and its answer. What goes wrong shows at the next request. */
  read(tokens: Int32Array): void {
    if (this.#closed || this.#reading !== null) return;
    const leave = new AbortController();
    const reading: Reading = { tokens, leave, done: Promise.resolve() };
    reading.done = this.#read(reading)
      .catch(() => {})
      .finally(() => {
        if (this.#reading === reading) this.#reading = null;
      });
    this.#reading = reading;
  }

  /** A prompt comes: what it begins with is read to its end, anything else is left at once. */
  async makeWay(prompt: Int32Array, signal: AbortSignal): Promise<void> {
    const reading = this.#reading;
    if (reading === null) return;
    const { tokens, leave, done } = reading;
    const same = tokens.length <= prompt.length && tokens.every((id, i) => id === prompt[i]);
    if (!same) {
      leave.abort();
      return;
    }
    if (signal.aborted) return;
    let leaveIt = (): void => {};
    const gone = new Promise<void>((resolve) => {
      leaveIt = resolve;
    });
    signal.addEventListener('abort', leaveIt, { once: true });
    try {
      await Promise.race([done, gone]);
    } finally {
      // The signal is also the server's, which lives on: a listener would keep the prompt with it.
      signal.removeEventListener('abort', leaveIt);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#reading?.leave.abort();
    await this.#reading?.done;
  }

  async #read(reading: Reading): Promise<void> {
    const { leave } = reading;
    const cuts = await this.#plan(reading.tokens, leave.signal);
    // Where the last step ends that does not depend on what follows.
    const last = cuts.at(-1) ?? 0;
    const target = last + STEP_TOKENS * Math.floor((reading.tokens.length - last) / STEP_TOKENS);
    reading.tokens = reading.tokens.subarray(0, target);
    const { tokens } = reading;
    if (target === 0) return;
    const remembered = await RememberedSequence.open(
      this.#engine,
      this.#memory,
      tokens,
      target,
      new PlannedCuts(cuts),
      true,
    );
    const { sequence, length } = remembered;
    try {
      const rest = tokens.subarray(length);
      const options = { rows: 'none' as const, pieceTokens: STEP_TOKENS, signal: leave.signal };
      for await (const ran of sequence.run(rest, options)) await remembered.note(ran);
    } finally {
      await sequence.close();
    }
  }

  /** The turn's cuts. */
  async #plan(tokens: Int32Array, leave: AbortSignal): Promise<number[]> {
    const segmenter = new Segmenter(this.#source);
    try {
      return await pushInPieces(segmenter, tokens, leave);
    } finally {
      segmenter.close();
    }
  }
}
