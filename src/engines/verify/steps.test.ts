import { expect, test } from 'vitest';
import { STEP_TOKENS } from '../cached-sequence.ts';
import { verifySteps } from './steps.ts';

test('a prompt in steps that end at the cuts, then 256 single tokens', () => {
  const steps = [...verifySteps(1000, [300, 700, 900])];
  const prompt = steps.slice(0, -256);
  expect(prompt.map(({ end }) => end)).toEqual([128, 256, 300, 428, 556, 684, 700, 744]);
  expect(prompt.filter(({ close }) => close).map(({ end }) => end)).toEqual([300, 700]);
  expect(steps.slice(-256).map(({ from }) => from)).toEqual(
    Array.from({ length: 256 }, (_, at) => 744 + at),
  );
});

test('half of a short text is decoded', () => {
  expect([...verifySteps(5, [2])]).toEqual([
    { from: 0, end: 2, close: true },
    { from: 2, end: 3, close: false },
    { from: 3, end: 4, close: false },
    { from: 4, end: 5, close: false },
  ]);
});

test('every token once, every cut at the end of a step, no step too long', () => {
  for (const [tokens, boundaries] of [
    [2, []],
    [513, [1, 2, 512, 513]],
    [4096, [128, 129, 640, 4000, 4095]],
  ] as const) {
    const steps = [...verifySteps(tokens, boundaries)];
    expect(steps.map(({ from }) => from)).toEqual([0, ...steps.slice(0, -1).map(({ end }) => end)]);
    expect(steps.at(-1)?.end).toBe(tokens);
    expect(steps.filter(({ close }) => close).map(({ end }) => end)).toEqual(boundaries);
    expect(Math.max(...steps.map(({ from, end }) => end - from))).toBeLessThanOrEqual(STEP_TOKENS);
  }
});
