// Whose turn it is: sessions with work take turns, one piece each.

/** A step of one session, run in pieces. */
export interface Job {
  /** Run the next piece; true when the job is done. */
  next(): Promise<boolean>;
  /** The job ended: with nothing, or with what went wrong. */
  settle(error?: unknown): void;
}

/**
 * Round-robin over sessions. A session's jobs run in order; a job that takes many pieces lets every
 * other session run one piece in between.
 */
export class Scheduler {
  readonly #queues = new Map<number, Job[]>();
  /** Sessions that wait for their turn, in order. */
  readonly #ring: number[] = [];
  #running = false;

  add(session: number, job: Job): void {
    const queue = this.#queues.get(session);
    if (queue !== undefined) {
      queue.push(job);
      return;
    }
    this.#queues.set(session, [job]);
    this.#ring.push(session);
    if (!this.#running) void this.#run();
  }

  /** Drop a session's jobs; the piece that is running runs to its end. */
  cancel(session: number, reason: unknown): void {
    const queue = this.#queues.get(session) ?? [];
    this.#queues.delete(session);
    const at = this.#ring.indexOf(session);
    if (at !== -1) this.#ring.splice(at, 1);
    for (const job of queue) job.settle(reason);
  }

  async #run(): Promise<void> {
    this.#running = true;
    for (let session = this.#ring.shift(); session !== undefined; session = this.#ring.shift()) {
      const queue = this.#queues.get(session) as Job[];
      const job = queue[0] as Job;
      let done = true;
      let failure: { error: unknown } | null = null;
      try {
        done = await job.next();
      } catch (error) {
        failure = { error };
      }
      // Cancelled meanwhile: already settled, and perhaps another queue has its number.
      if (this.#queues.get(session) !== queue) continue;
      if (failure !== null) {
        this.cancel(session, failure.error);
        continue;
      }
      if (done) {
        queue.shift();
        job.settle();
      }
      if (queue.length > 0) this.#ring.push(session);
      else this.#queues.delete(session);
    }
    this.#running = false;
  }
}
