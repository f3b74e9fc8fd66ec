import { CommanderError } from 'commander';
import { expect, test } from 'vitest';
import { run } from '../run.ts';
import { usageError } from './usage-error.ts';

const owners = (option: string) => (option === '--engine' ? ['eval', 'serve'] : []);

test.each([
  [
    "error: unknown option '--againt'\n(Did you mean --against?)",
    'expected an option of lockstep verify, got the unknown option --againt',
    'Did you mean --against? lockstep verify --help lists its arguments and options.',
  ],
  [
    "error: unknown option '--engine'",
    'expected an option of lockstep verify, got the unknown option --engine',
    '--engine is an option of lockstep eval, serve. lockstep verify --help lists its arguments and options.',
  ],
  [
    "error: option '--steps <n>' argument 'five' is invalid. expected a whole number of at least 1.",
    '--steps: expected a whole number of at least 1, got five',
  ],
  [
    "error: option '--precision <names>' argument 'x' is invalid. expected fp32 or all, got x.",
    '--precision: expected fp32 or all, got x',
  ],
  [
    "error: option '--engine <name>' argument 'a\nb' is invalid. Allowed choices are onnx, torch, vllm.",
    '--engine: expected onnx, torch or vllm, got a\nb',
  ],
  ["error: missing required argument 'file'", 'missing required argument <file>'],
  ["error: a sentence of another version's", "a sentence of another version's"],
])('%j', (message, sentence, fix = 'lockstep verify --help lists its arguments and options.') => {
  const error = usageError(new CommanderError(1, 'commander.error', message), 'verify', owners);
  expect(error).toMatchObject({ code: 'LS_USAGE', message: sentence, fix: fix });
});

test('a path with spaces that is not in quotes', () => {
  const message = "error: too many arguments for 'plan'. Expected 1 argument but got 2.";
  const error = usageError(
    new CommanderError(1, 'commander.excessArguments', message),
    'plan',
    owners,
  );
  expect(error.message).toBe('too many arguments: expected 1, got 2');
  expect(error.fix).toMatch(/^Put a path with spaces in quotes\./);
});

test('a command below a command has the same exit code', async () => {
  expect(await run(['keys', 'add'])).toBe(2);
});
