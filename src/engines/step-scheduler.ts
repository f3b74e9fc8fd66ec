// Schedules steps where prompts run beside answers: answers get at least half of the engine's time.

/** Schedules the steps of one sequence. */
export type SequenceScheduler = Pick<StepScheduler, 'prompt' | 'answer'>;

/** Runs a step of the engine when it is due. */
export type RunStep = <T>(step: () => Promise<T>, signal?: AbortSignal) => Promise<T>;

/**
 * An answer that takes no step for this long, in milliseconds, does not hold up prompts: its reader is
 * slow. Between two tokens some 2 ms pass for sampling and sending.
 */
const SILENCE_MS = 50;
/** What answers get for each millisecond of a prompt's step: more than it took, so that sampling and sending fit in. */
const PAID_BACK = 1.2;

/**
 * Schedules an engine that runs one step at a time.
 *
 * Steps of prompts run one after the other, in the order in which they came. After each, answers run
 * for 1.2 times as long as it took before the next one begins. So while a prompt runs, the tokens of an answer
 * take on average at most twice the time that they take without it, and the longest pause between two
 * of them is one step of a prompt. Steps are not divided further: what runs in which step follows from
 * the tokens alone, so the numbers do not depend on other requests.
 *
 * Work in the background takes a step only while no other sequence is open, one step at a time: it
 * delays a new sequence by at most the one step that runs.
 */
export class StepScheduler {
  /** Milliseconds that prompts have taken and answers have not yet had. */
  #debt = 0;
  /** What a step of an answer takes, in milliseconds: a moving average. */
  #usual = 0;
  /** Answers that are being written. */
  #answers = 0;
  /** Steps of answers that run or wait in the engine. */
  #running = 0;
  /** When the engine's last step ended. */
  #ended = 0;
  /** When an answer last took or ended a step. */
  #seen = 0;
  /** The last step of a prompt in the queue. */
  #promptQueue: Promise<void> = Promise.resolve();
  /** Called when a prompt that waits for answers may look again. */
  #wakePrompt: () => void = () => {};
  /** Sequences that are not in the background. */
  #open = 0;
  /** The last step in the background in the queue. */
  #backgroundQueue: Promise<void> = Promise.resolve();
  /** Steps in the background that wait until no other sequence is open. */
  readonly #waiting = new Set<() => void>();
  /** For sequences in the background. */
  readonly background: SequenceScheduler = {
    prompt: (step, signal) => this.#whenIdle(step, signal),
    answer: (step, signal) => this.#whenIdle(step, signal),
  };

  /** A sequence that is not in the background begins; call what this gives once it has ended. */
  openSequence(): () => void {
    this.#open += 1;
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      this.#open -= 1;
      if (this.#open === 0) for (const wake of [...this.#waiting]) wake();
    };
  }

  /** Write an answer, whose steps come by `answer`; call what this gives once it has ended. */
  beginAnswer(): () => void {
    this.#answers += 1;
    this.#seen = performance.now();
    let open = true;
    return () => {
      if (!open) return;
      open = false;
      this.#answers -= 1;
      if (this.#answers === 0) this.#debt = 0;
      this.#wakePrompt();
    };
  }

  /** A step of an answer: it runs at once. */
  readonly answer: RunStep = async (step) => {
    this.#running += 1;
    const since = performance.now();
    try {
      return await step();
    } finally {
      this.#running -= 1;
      const took = this.#took(since);
      this.#usual = 0.9 * this.#usual + 0.1 * took;
      this.#debt = Math.max(0, this.#debt - took);
      this.#seen = performance.now();
      this.#wakePrompt();
    }
  };

  /** A step of a prompt. @throws the signal's reason where it aborts while the step waits */
  readonly prompt: RunStep = async (step, signal) => {
    const before = this.#promptQueue;
    let leave = (): void => {};
    this.#promptQueue = new Promise((resolve) => {
      leave = resolve;
    });
    try {
      await before;
      await this.#waitForAnswers(signal);
      const since = performance.now();
      try {
        return await step();
      } finally {
        const took = this.#took(since);
        if (this.#answers > 0) this.#debt += PAID_BACK * took;
      }
    } finally {
      leave();
    }
  };

  /** @throws the signal's reason where it aborts while the step waits */
  async #whenIdle<T>(step: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const before = this.#backgroundQueue;
    let leave = (): void => {};
    this.#backgroundQueue = new Promise((resolve) => {
      leave = resolve;
    });
    try {
      await before;
      signal?.throwIfAborted();
      while (this.#open > 0) {
        await new Promise<void>((resolve) => {
          const wake = (): void => {
            this.#waiting.delete(wake);
            signal?.removeEventListener('abort', wake);
            resolve();
          };
          this.#waiting.add(wake);
          signal?.addEventListener('abort', wake, { once: true });
        });
        signal?.throwIfAborted();
      }
      return await step();
    } finally {
      leave();
    }
  }

  /** Wait until answers have had their share of time, or no answer takes steps any more. */
  async #waitForAnswers(signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    // Steps of answers that the engine has already been given come first in any case.
    while (this.#debt > this.#running * this.#usual && this.#answers > 0) {
      const silent = performance.now() - this.#seen;
      if (this.#running === 0 && silent >= SILENCE_MS) return;
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          signal?.removeEventListener('abort', wake);
          this.#wakePrompt = () => {};
          resolve();
        };
        const timer = setTimeout(wake, Math.max(1, SILENCE_MS - silent));
        this.#wakePrompt = wake;
        signal?.addEventListener('abort', wake, { once: true });
      });
      signal?.throwIfAborted();
    }
  }

  /** What a step took of the engine that was asked for `since`: it began when the one before had ended. */
  #took(since: number): number {
    const now = performance.now();
    const took = now - Math.max(since, this.#ended);
    this.#ended = now;
    return took;
  }
}
