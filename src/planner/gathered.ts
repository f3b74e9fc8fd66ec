// What is asked for within one turn of the event loop, done in one go.

/** The outcome of one item. */
export type Outcome<R> = { value: R } | { error: unknown };

/** Gathers items until the event loop has read what there is to read. */
export class Gathered<T, R> {
  readonly #run: (items: readonly T[]) => Outcome<R>[];
  #waiting: { item: T; resolve: (value: R) => void; reject: (error: unknown) => void }[] = [];

  /** @param run gives an outcome for each item, in order */
  constructor(run: (items: readonly T[]) => Outcome<R>[]) {
    this.#run = run;
  }

  add(item: T): Promise<R> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      if (this.#waiting.length === 1) setImmediate(() => this.#flush());
    });
  }

  #flush(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    const outcomes = this.#run(waiting.map(({ item }) => item));
    for (const [i, { resolve, reject }] of waiting.entries()) {
      const outcome = outcomes[i] as Outcome<R>;
      if ('value' in outcome) resolve(outcome.value);
      else reject(outcome.error);
    }
  }
}
