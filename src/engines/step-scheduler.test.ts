import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { StepScheduler } from './step-scheduler.ts';

// Times here are virtual: the engine's steps take what the test says, on whatever machine.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

const wait = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** An engine that runs one step at a time, in the order in which they are asked for. */
class Serial {
  #last: Promise<void> = Promise.resolve();

  step(ms: number): Promise<void> {
    this.#last = this.#last.then(() => wait(ms));
    return this.#last;
  }
}

/** Milliseconds of one step of an answer and of a prompt, and between two tokens. */
const TOKEN = 41;
const PIECE = 370;
const BETWEEN = 2;

interface Measured {
  /** When each token came. */
  tokens: number[];
}

/** Write an answer of so many tokens. */
async function write(scheduler: StepScheduler, engine: Serial, count: number): Promise<Measured> {
  const end = scheduler.beginAnswer();
  const tokens = [performance.now()];
  for (let i = 0; i < count; i++) {
    await scheduler.answer(() => engine.step(TOKEN));
    await wait(BETWEEN);
    tokens.push(performance.now());
  }
  end();
  return { tokens };
}

async function read(scheduler: StepScheduler, engine: Serial, pieces: number): Promise<number> {
  for (let i = 0; i < pieces; i++) await scheduler.prompt(() => engine.step(PIECE));
  return performance.now();
}

/** Run to the end in virtual time. */
async function finished<T>(work: Promise<T>): Promise<T> {
  let done = false;
  void work.finally(() => {
    done = true;
  });
  while (!done) await vi.advanceTimersByTimeAsync(10);
  return work;
}

const gaps = ({ tokens }: Measured) => tokens.slice(1).map((at, i) => at - (tokens[i] as number));
const mean = (list: number[]) => list.reduce((a, b) => a + b, 0) / list.length;

describe('StepScheduler', () => {
  it.each([1, 7])('keeps %i answers within twice their time while a prompt runs', async (count) => {
    const alone = await finished(
      (async () => {
        const scheduler = new StepScheduler();
        const engine = new Serial();
        return Promise.all(Array.from({ length: count }, () => write(scheduler, engine, 60)));
      })(),
    );
    const usual = Math.max(...alone.map((one) => mean(gaps(one))));

    const scheduler = new StepScheduler();
    const engine = new Serial();
    const start = performance.now();
    const [ended, ...beside] = await finished(
      Promise.all([
        read(scheduler, engine, 62),
        ...Array.from({ length: count }, () => write(scheduler, engine, 900)),
      ]),
    );
    const prompt = ended - start;
    for (const one of beside) {
      const during = one.tokens.filter((at) => at < ended);
      expect(during.length).toBeGreaterThan(20);
      const all = gaps({ tokens: during });
      // On average twice, the step with which it began included.
      expect(mean(all)).toBeLessThanOrEqual(2 * usual);
      // No pause is longer than one step of the prompt beside what others take.
      expect(Math.max(...all)).toBeLessThanOrEqual(PIECE + 2 * usual);
    }
    // The prompt gets nearly its half: it takes little more than twice what it takes alone.
    expect(prompt).toBeGreaterThan(1.8 * 62 * PIECE);
    expect(prompt).toBeLessThan(2.5 * 62 * PIECE);
  });

  it('lets a prompt alone run without a pause', async () => {
    const scheduler = new StepScheduler();
    const ended = await finished(read(scheduler, new Serial(), 20));
    expect(ended).toBe(20 * PIECE);
  });

  it('does not hold up a prompt for an answer whose reader is slow', async () => {
    const scheduler = new StepScheduler();
    const engine = new Serial();
    const end = scheduler.beginAnswer();
    await finished(scheduler.answer(() => engine.step(TOKEN)));
    const start = performance.now();
    const ended = await finished(read(scheduler, engine, 20));
    // Once it waits to see that nothing comes.
    expect(ended - start).toBeLessThanOrEqual(20 * PIECE + 100);
    end();
  });

  it('gives prompts their steps in turn', async () => {
    const scheduler = new StepScheduler();
    const engine = new Serial();
    const log: string[] = [];
    const one = async (name: string) => {
      for (let i = 0; i < 3; i++) {
        await scheduler.prompt(async () => {
          log.push(name);
          await engine.step(PIECE);
        });
      }
    };
    await finished(Promise.all([one('a'), one('b')]));
    expect(log.join('')).toBe('ababab');
  });

  it('leaves out a prompt that has gone, and lets the next one run', async () => {
    const scheduler = new StepScheduler();
    const engine = new Serial();
    const end = scheduler.beginAnswer();
    const writing = scheduler.answer(() => engine.step(TOKEN));
    await vi.advanceTimersByTimeAsync(1);
    // In debt: the next one has to wait for the answer.
    const first = scheduler.prompt(() => engine.step(PIECE));
    await finished(Promise.all([writing, first]));
    const busy = scheduler.answer(() => engine.step(TOKEN));
    const leave = new AbortController();
    let ran = 0;
    const step = async () => {
      ran += 1;
      await engine.step(PIECE);
    };
    const gone = scheduler.prompt(step, leave.signal);
    const next = scheduler.prompt(step);
    const refused = expect(gone).rejects.toThrow('left');
    await vi.advanceTimersByTimeAsync(10);
    expect(ran).toBe(0);
    leave.abort(new Error('left'));
    await refused;
    await finished(Promise.all([busy, next]));
    expect(ran).toBe(1);
    end();
  });
});

describe('in the background', () => {
  it('takes no step while another sequence is open, and one at a time', async () => {
    const scheduler = new StepScheduler();
    const engine = new Serial();
    const log: string[] = [];
    const back = async (name: string) => {
      for (let i = 0; i < 3; i++) {
        await scheduler.background.answer(async () => {
          log.push(`${name}${i}`);
          await engine.step(TOKEN);
        });
      }
    };
    const both = Promise.all([back('a'), back('b')]);
    // The first step runs when the answer comes: it is all that the answer waits for.
    await vi.advanceTimersByTimeAsync(1);
    expect(log).toEqual(['a0']);
    const leave = scheduler.openSequence();
    const { tokens } = await finished(write(scheduler, engine, 5));
    expect(log).toEqual(['a0']);
    const [begun = 0, first = 0, ...rest] = tokens;
    expect(first - begun).toBeLessThan(2 * TOKEN + BETWEEN + 1);
    expect((rest.at(-1) ?? 0) - first).toBeLessThan(4 * (TOKEN + BETWEEN) + 1);
    leave();
    leave();
    await finished(both);
    expect(log.sort()).toEqual(['a0', 'a1', 'a2', 'b0', 'b1', 'b2']);
  });

  it('leaves the line when it is aborted, and lets the next one pass', async () => {
    const scheduler = new StepScheduler();
    const leave = scheduler.openSequence();
    const gone = new AbortController();
    const first = scheduler.background.prompt(async () => 'first', gone.signal);
    const second = scheduler.background.prompt(async () => 'second');
    gone.abort(new Error('gone'));
    await expect(first).rejects.toThrow('gone');
    leave();
    expect(await second).toBe('second');
  });
});
