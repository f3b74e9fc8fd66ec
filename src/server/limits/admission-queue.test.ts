import { describe, expect, it } from 'vitest';
import { HttpError } from '../errors.ts';
import { AdmissionQueue } from './admission-queue.ts';

const never = () => new AbortController().signal;

/** A queue whose admissions are written down, `name` by `name`. */
function watched(queue: AdmissionQueue) {
  const log: string[] = [];
  const releases = new Map<string, () => void>();
  const ask = (caller: string, name: string, more: object = {}) => {
    const asked = queue.acquire(never(), { caller, ...more });
    const told = asked.then(
      (release) => {
        log.push(name);
        releases.set(name, release);
      },
      (error: HttpError) => void log.push(`${name} ${error.status}`),
    );
    return told;
  };
  const end = async (name: string) => {
    releases.get(name)?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { log, ask, end };
}

describe('AdmissionQueue', () => {
  it('keeps one caller’s requests in their order', async () => {
    const { log, ask, end } = watched(new AdmissionQueue(1, 8));
    await ask('a', 'a1');
    void ask('a', 'a2');
    void ask('a', 'a3');
    await end('a1');
    await end('a2');
    expect(log).toEqual(['a1', 'a2', 'a3']);
  });

  it('gives a free slot to who holds fewest, and to equals in turn', async () => {
    const queue = new AdmissionQueue(2, 16);
    const { log, ask, end } = watched(queue);
    await ask('a', 'a1');
    await ask('a', 'a2');
    for (const name of ['a3', 'a4', 'a5']) void ask('a', name);
    void ask('b', 'b1');
    void ask('b', 'b2');
    void ask('c', 'c1');
    await end('a1');
    // a holds one still; b and c hold nothing, and b came first.
    expect(log.at(-1)).toBe('b1');
    await end('a2');
    // Now a and c hold nothing, and a's turn is older.
    expect(log.at(-1)).toBe('a3');
    await end('b1');
    expect(log.at(-1)).toBe('c1');
    await end('a3');
    expect(log).toEqual(['a1', 'a2', 'b1', 'a3', 'c1', 'b2']);
    expect([queue.heldBy('a'), queue.heldBy('b'), queue.heldBy('c')]).toEqual([0, 1, 1]);
  });

  it('counts a weight as so many slots', async () => {
    const { log, ask, end } = watched(new AdmissionQueue(4, 16));
    for (const name of ['x1', 'x2', 'x3', 'x4']) await ask('x', name);
    for (const name of ['a1', 'a2', 'a3', 'a4']) void ask('a', name, { weight: 3 });
    for (const name of ['b1', 'b2', 'b3', 'b4']) void ask('b', name);
    for (const name of ['x1', 'x2', 'x3', 'x4']) await end(name);
    expect(log.slice(4).sort()).toEqual(['a1', 'a2', 'a3', 'b1']);
  });

  it('gives turns by weight where there is one slot, to callers that ask again and again', async () => {
    const { log, ask, end } = watched(new AdmissionQueue(1, 16));
    await ask('x', 'x');
    let count = 0;
    const next = (caller: string, weight: number) => {
      void ask(caller, `${caller}${count++}`, { weight });
    };
    next('a', 3);
    next('b', 1);
    await end('x');
    // Whoever is let in asks again at once, so that both always wait.
    for (let i = 0; i < 40; i++) {
      const running = log.at(-1) as string;
      if (running.startsWith('a')) next('a', 3);
      else next('b', 1);
      await end(running);
    }
    const turns = log.slice(1, 41).map((name) => name[0]);
    expect(turns.filter((name) => name === 'a')).toHaveLength(30);
    // And they take turns: thirds are rounded, so b waits for one more than three at the most.
    expect(turns.join('')).not.toContain('aaaaa');
  });

  it('leaves a slot for others: one caller of several cannot hold them all', async () => {
    const queue = new AdmissionQueue(3, 8, 2);
    const { log, ask, end } = watched(queue);
    await ask('a', 'a1');
    await ask('a', 'a2');
    void ask('a', 'a3');
    expect([queue.active, queue.waiting]).toEqual([2, 1]);
    await ask('b', 'b1');
    await end('b1');
    // The slot that b left stays free for another.
    expect([queue.active, queue.waiting]).toEqual([2, 1]);
    await end('a1');
    expect(log).toEqual(['a1', 'a2', 'b1', 'a3']);
  });

  it('takes the youngest of the longest queue when a newcomer has fewer in it', async () => {
    const queue = new AdmissionQueue(1, 3);
    const { log, ask, end } = watched(queue);
    await ask('a', 'a1');
    for (const name of ['a2', 'a3', 'a4']) void ask('a', name);
    await ask('a', 'a5');
    expect(log).toEqual(['a1', 'a5 429']);
    void ask('b', 'b1');
    await end('');
    expect(log).toEqual(['a1', 'a5 429', 'a4 429']);
    expect(queue.waiting).toBe(3);
    // b has one in it now, a two: nobody has more than b would have with another one.
    await ask('b', 'b2');
    expect(log.at(-1)).toBe('b2 429');
    for (const name of ['a1', 'a2', 'b1']) await end(name);
    expect(log.slice(-3)).toEqual(['a2', 'b1', 'a3']);
  });

  it('tells a deadline from a client that left', async () => {
    const queue = new AdmissionQueue(1, 3);
    await queue.acquire(never());
    const late = new HttpError(503, 'Too long.', { code: 'queue_timeout' });
    const waiting = new AbortController();
    const asked = queue.acquire(waiting.signal);
    waiting.abort(late);
    await expect(asked).rejects.toBe(late);
    const gone = new AbortController();
    const other = queue.acquire(gone.signal);
    gone.abort();
    await expect(other).rejects.toMatchObject({ status: 499 });
    expect(queue.waiting).toBe(0);
  });
});
