import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { keepSpare, takeSpare } from './spare.ts';

let child: ChildProcess;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  child = spawn(process.execPath, ['-e', 'process.stdin.resume()']);
});
afterEach(() => {
  vi.useRealTimers();
  child.kill('SIGKILL');
});

it('hands a process out once, and does not end it afterwards', () => {
  expect(keepSpare('a', child)).toBe(true);
  expect(takeSpare('b')).toBeUndefined();
  expect(takeSpare('a')).toBe(child);
  expect(takeSpare('a')).toBeUndefined();
  vi.advanceTimersByTime(60_000);
  expect(child.killed).toBe(false);
});

it('keeps at most one process of a template', () => {
  expect(keepSpare('a', child)).toBe(true);
  expect(keepSpare('a', child)).toBe(false);
  expect(takeSpare('a')).toBe(child);
});

it('does not hand out a process that it ends, before its end is reported', () => {
  expect(keepSpare('a', child)).toBe(true);
  vi.advanceTimersByTime(60_000);
  expect(child.killed).toBe(true);
  expect(child.exitCode ?? child.signalCode).toBeNull();
  expect(takeSpare('a')).toBeUndefined();
});

it('the reported end of one process does not release the next', async () => {
  keepSpare('a', child);
  vi.advanceTimersByTime(60_000);
  const next = spawn(process.execPath, ['-e', 'process.stdin.resume()']);
  try {
    expect(keepSpare('a', next)).toBe(true);
    await once(child, 'exit');
    expect(takeSpare('a')).toBe(next);
  } finally {
    next.kill('SIGKILL');
  }
});
