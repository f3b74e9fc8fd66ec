// Several prompts of one request as one run: choices are numbered through, prompt after prompt.
import type { SessionMemory } from './engine.ts';
import type { Run, RunEvent, Runner, RunRequest } from './runner.ts';

/**
 * Begin a run of each request; at most `runner.maxConcurrentRuns` of them run at a time.
 *
 * Choice c of request i is choice i * n + c of the whole. The requests have the same `n`.
 */
export async function runMany(
  runner: Pick<Runner, 'run' | 'maxConcurrentRuns'>,
  requests: readonly RunRequest[],
  signal: AbortSignal,
): Promise<Run> {
  const [first] = requests;
  if (first === undefined) throw new RangeError('expected at least one request');
  if (requests.length === 1) return runner.run(first, signal);
  const choices = first.extra?.n ?? 1;
  // What makes one run fail ends the others too.
  const leave = new AbortController();
  const either = AbortSignal.any([signal, leave.signal]);
  const waiting = [...requests.keys()];
  const running = new Map<number, Run>();
  const begin = async (index: number): Promise<Run> => {
    const run = await runner.run(requests[index] as RunRequest, either);
    running.set(index, run);
    return run;
  };
  // The first one is begun here: what is refused is refused before an answer has begun.
  const opened = await begin(waiting.shift() as number);

  async function* events(): AsyncGenerator<RunEvent, void> {
    type Step = { index: number; run: Run; result: IteratorResult<RunEvent, void> };
    const steps = new Map<number, Promise<Step>>();
    const advance = (index: number, run: Run): void => {
      const step = run.events.next().then((result) => ({ index, run, result }));
      step.catch(() => {});
      steps.set(index, step);
    };
    try {
      advance(0, opened);
      for (;;) {
        while (waiting.length > 0 && steps.size < runner.maxConcurrentRuns) {
          const index = waiting.shift() as number;
          advance(index, await begin(index));
        }
        if (steps.size === 0) return;
        const { index, run, result } = await Promise.race(steps.values());
        steps.delete(index);
        if (result.done) {
          running.delete(index);
          continue;
        }
        yield { ...result.value, choice: index * choices + result.value.choice };
        advance(index, run);
      }
    } finally {
      leave.abort();
      await closeAll();
    }
  }
  const closeAll = () => Promise.allSettled([...running.values()].map((run) => run.close()));

  const all = events();
  return {
    events: all,
    async close() {
      leave.abort();
      await all.return();
      await closeAll();
    },
    async memory() {
      const held = await Promise.all([...running.values()].map((run) => run.memory()));
      const told = held.filter((one) => one !== null);
      return told.length === 0 ? null : told.reduce((sum, one) => added(sum, one));
    },
    spans: () => null,
  };
}

function added(a: SessionMemory, b: SessionMemory): SessionMemory {
  return {
    sinks: a.sinks + b.sinks,
    carry: a.carry + b.carry,
    pool: a.pool + b.pool,
    retrieved: a.retrieved + b.retrieved,
    open: a.open + b.open,
    total: a.total + b.total,
    fullAttention: a.fullAttention + b.fullAttention,
  };
}
