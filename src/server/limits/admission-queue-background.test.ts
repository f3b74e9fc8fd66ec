import { describe, expect, it } from 'vitest';
import type { HttpError } from '../errors.ts';
import { AdmissionQueue } from './admission-queue.ts';

const never = () => new AbortController().signal;
const settled = () => new Promise((resolve) => setImmediate(resolve));

/** Holders in the background by name, and who of them was preempted. */
function background(queue: AdmissionQueue) {
  const told: string[] = [];
  const releases = new Map<string, () => void>();
  const take = async (name: string) => {
    const preempt = () => void told.push(name);
    releases.set(name, await queue.acquire(never(), { caller: 'batch', background: { preempt } }));
  };
  const end = (name: string) => releases.get(name)?.();
  return { told, take, end };
}

describe('work in the background', () => {
  it('takes free slots, and waits for none', async () => {
    const queue = new AdmissionQueue(2, 8);
    const { take, told } = background(queue);
    await queue.acquire(never(), { caller: 'a' });
    await take('one');
    expect(queue.active).toBe(2);
    const refused = await take('two').catch((error: HttpError) => error);
    expect(refused).toMatchObject({ status: 429, code: 'no_idle_place' });
    expect([queue.waiting, told]).toEqual([0, []]);
  });

  it('is preempted by whoever comes, the youngest first, and before anybody in the background', async () => {
    const queue = new AdmissionQueue(2, 8);
    const { take, told, end } = background(queue);
    await take('one');
    await take('two');
    let got = false;
    const asked = queue.acquire(never(), { caller: 'a' }).then((release) => {
      got = true;
      return release;
    });
    expect([told, queue.waiting, queue.idle]).toEqual([['two'], 1, false]);
    let idle = 0;
    queue.onIdle = () => {
      idle += 1;
    };
    end('two');
    await settled();
    expect([got, queue.active, idle]).toEqual([true, 2, 0]);
    (await asked)();
    expect([idle, queue.idle]).toEqual([1, true]);
    end('one');
    expect(queue.active).toBe(0);
  });

  it('is not told twice, and no more of it than wait', async () => {
    const queue = new AdmissionQueue(3, 8, 2);
    const { take, told } = background(queue);
    for (const name of ['one', 'two', 'three']) await take(name);
    for (let i = 0; i < 3; i++) void queue.acquire(never(), { caller: 'a' });
    // `a` may hold two slots and no more.
    expect([told, queue.waiting]).toEqual([['three', 'two'], 3]);
    void queue.acquire(never(), { caller: 'b' });
    expect(told).toEqual(['three', 'two', 'one']);
  });

  it('does not fill the queue: who could have its slot is not refused', async () => {
    const queue = new AdmissionQueue(1, 0);
    const { take, told, end } = background(queue);
    await take('one');
    const asked = queue.acquire(never(), { caller: 'a' });
    expect(told).toEqual(['one']);
    const full = queue.acquire(never(), { caller: 'b' });
    await expect(full).rejects.toMatchObject({ status: 429, code: 'too_many_requests' });
    end('one');
    (await asked)();
  });

  it('has a slot again once nobody waits any more', async () => {
    const queue = new AdmissionQueue(1, 8, 1);
    const release = await queue.acquire(never(), { caller: 'a' });
    const leave = new AbortController();
    const waiting = queue.acquire(leave.signal, { caller: 'b' });
    let idle = 0;
    queue.onIdle = () => {
      idle += 1;
    };
    leave.abort();
    await expect(waiting).rejects.toMatchObject({ status: 499 });
    expect(idle).toBe(0);
    release();
    expect(idle).toBe(1);
    queue.close();
    expect(queue.idle).toBe(false);
  });
});
