import { EventEmitter } from 'node:events';
import type { Response } from 'express';
import { Registry } from 'prom-client';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { HttpError } from '../errors.ts';
import { Accounts } from './accounts.ts';

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000 });
});
afterEach(() => {
  vi.useRealTimers();
});

/** Requests of one key with 100 tokens a minute. */
function requests() {
  const accounts = new Accounts(new Registry());
  const response = () => {
    const caller = { name: 'k', id: 'k', operator: false, limits: { tokensPerMinute: 100 } };
    const made = Object.assign(new EventEmitter(), { closed: false, locals: { caller } });
    return made as unknown as Response;
  };
  const enter = async (tokens: number) => {
    const mine = response();
    const code = await accounts.enter(mine, tokens).then(
      () => 'in',
      (error: HttpError) => String(error.code),
    );
    return { code, leave: () => mine.emit('close') };
  };
  /** How many prompts of ten tokens get in now. */
  const room = async () => {
    let count = 0;
    while ((await enter(10)).code === 'in') count += 1;
    return count;
  };
  return { accounts, response, enter, room };
}

describe('the tokens of a key', () => {
  it('that were reserved and not used come back within their window', async () => {
    const { enter, room } = requests();
    const one = await enter(100);
    expect((await enter(10)).code).toBe('too_many_tokens');
    one.leave();
    expect(await room()).toBe(10);
  });

  it('do not come back into a later window', async () => {
    const { enter, room } = requests();
    const one = await enter(100);
    vi.advanceTimersByTime(61_000);
    one.leave();
    expect(await room()).toBe(10);
    vi.advanceTimersByTime(61_000);
    const two = await enter(50);
    vi.advanceTimersByTime(61_000);
    await enter(50);
    two.leave();
    expect(await room()).toBe(5);
  });

  it('come back once where a refused request leaves while it is being looked at', async () => {
    const { accounts, response, enter, room } = requests();
    await enter(60);
    const mine = response();
    const entering = accounts.enter(mine, 50).catch((error: HttpError) => error.code);
    mine.emit('close');
    expect(await entering).toBe('too_many_tokens');
    expect(await room()).toBe(4);
  });

  it('come back where a request leaves before it is told that it is in', async () => {
    const { accounts, response, room } = requests();
    const mine = response();
    const entering = accounts.enter(mine, 100);
    mine.emit('close');
    await entering;
    expect(await room()).toBe(10);
  });
});
