import { describe, expect, it } from 'vitest';
import { type Job, Scheduler } from './scheduler.ts';

/** A job of `pieces` pieces that logs each; `fail` throws in that piece. */
function job(log: string[], name: string, pieces: number, fail = -1): Job {
  let piece = 0;
  return {
    async next() {
      await null;
      log.push(`${name}${piece}`);
      if (piece === fail) throw new Error('failed');
      piece += 1;
      return piece === pieces;
    },
    settle: (error) => log.push(error === undefined ? `${name} done` : `${name} ${error}`),
  };
}

const idle = () => new Promise((resolve) => setTimeout(resolve, 5));

describe('Scheduler', () => {
  it('gives every session a piece in turn, and keeps a session in order', async () => {
    const log: string[] = [];
    const scheduler = new Scheduler();
    scheduler.add(1, job(log, 'a', 3));
    scheduler.add(1, job(log, 'b', 1));
    scheduler.add(2, job(log, 'c', 2));
    await idle();
    expect(log).toEqual(['a0', 'c0', 'a1', 'c1', 'c done', 'a2', 'a done', 'b0', 'b done']);
    scheduler.add(2, job(log, 'd', 1));
    await idle();
    expect(log.slice(-2)).toEqual(['d0', 'd done']);
  });

  it('fails what a session has queued with the job that failed, and no other session', async () => {
    const log: string[] = [];
    const scheduler = new Scheduler();
    scheduler.add(1, job(log, 'a', 3, 1));
    scheduler.add(1, job(log, 'b', 1));
    scheduler.add(2, job(log, 'c', 3));
    await idle();
    expect(log).toEqual([
      'a0',
      'c0',
      'a1',
      'a Error: failed',
      'b Error: failed',
      'c1',
      'c2',
      'c done',
    ]);
  });

  it('drops a cancelled session, even in the middle of its piece', async () => {
    const log: string[] = [];
    const scheduler = new Scheduler();
    scheduler.add(1, job(log, 'a', 2));
    scheduler.add(2, job(log, 'b', 1));
    scheduler.cancel(1, 'left');
    scheduler.cancel(3, 'unknown');
    await idle();
    expect(log).toEqual(['a left', 'a0', 'b0', 'b done']);
  });
});
