import { expect, it } from 'vitest';
import { definePolicy, fixed, sentences } from './index.ts';
import { originOf } from './policy.ts';

const every = definePolicy({
  name: 'every',
  params: { size: 4, words: ['a'], flag: true },
  push: () => false,
});

it('makes frozen, printable policies', () => {
  const policy = every({ size: 8 });
  expect(JSON.stringify(policy)).toBe(
    '{"kind":"policy","name":"every","params":{"size":8,"words":["a"],"flag":true}}',
  );
  expect(Object.isFrozen(policy)).toBe(true);
  expect(Object.isFrozen(policy.params['words'])).toBe(true);
});

it('keeps its own copy of lists', () => {
  const words = ['x'];
  const policy = every({ words });
  words.push('y');
  expect(policy.params['words']).toEqual(['x']);
});

it('knows the module of a built-in policy without printing it', () => {
  expect(originOf(fixed())?.module).toMatch(/policies\/fixed\/fixed\.ts$/);
  expect(JSON.stringify(sentences())).not.toContain('file:');
});

it.each([
  [{ size: 1.5 }, 'every.size: expected an integer, got 1.5'],
  [{ size: '4' }, 'every.size: expected an integer, got "4"'],
  [{ words: ['a', 3] }, 'every.words[1]: expected a string, got 3'],
  [{ flag: null }, 'every.flag: expected a boolean, got null'],
  [{ sise: 4 }, 'every.sise: expected one of the parameters size, words, flag, got 4'],
  [12, 'every: expected an object of parameters, such as every({ size: 4 }), got 12'],
])('refuses the parameters %j', (params, message) => {
  expect(() => every(params as never)).toThrow(
    expect.objectContaining({ code: 'LS_POLICY_PARAMS', message }),
  );
});

it.each([
  [{ name: 'no spaces', push: () => false }, 'got "no spaces"'],
  [{ name: 'pushless' }, 'expected push of pushless to be a function, got undefined'],
])('refuses the definition %j', (definition, message) => {
  expect(() => definePolicy(definition as never)).toThrow(message);
});
