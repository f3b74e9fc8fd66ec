import { CommanderError } from 'commander';
import { expect, test } from 'vitest';
import { commands } from '../commands.ts';
import { run } from '../run.ts';
import { ownersOf, usageError } from './usage-error.ts';

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
  ["error: missing required argument 'file'", 'expected the argument <file>, got none'],
  [
    "error: required option '--out <dir>' not specified",
    'expected the option --out <dir>, got none',
  ],
  ["error: option '--html <out>' argument missing", 'expected a value for --html <out>, got none'],
  [
    "error: option '--config <file>' cannot be used with option '--checkpoint <dir>'",
    'expected --config or --checkpoint, got both',
  ],
  [
    "error: option '--model <name>' argument '' is invalid. expected a value.",
    '--model: expected a value, got an empty text',
  ],
  ["error: a sentence of another version's", "a sentence of another version's"],
])('%j', (message, sentence, fix = 'lockstep verify --help lists its arguments and options.') => {
  const error = usageError(new CommanderError(1, 'commander.error', message), 'verify', owners);
  expect(error).toMatchObject({ code: 'LS_USAGE', message: sentence, fix: fix });
});

test('of an option that many commands have, the nearest and the number of the others', () => {
  const message = "error: unknown option '--json'";
  const all = ['init', 'doctor', 'plan', 'keys add', 'keys list', 'keys revoke'];
  const hint = (command: string, names: readonly string[]) =>
    usageError(new CommanderError(1, 'commander.error', message), command, () => names).fix;
  expect(hint('keys', all)).toMatch(
    /^--json is an option of lockstep keys add, keys list, keys revoke, init and 2 more\. /,
  );
  expect(hint('serve', all.slice(0, 5))).toContain(
    'lockstep init, doctor, plan, keys add, keys list.',
  );
});

test('commands below a command are owners too', async () => {
  const keys = await commands['keys']?.();
  expect(ownersOf(keys === undefined ? [] : [keys], '--json')).toEqual([
    'keys add',
    'keys list',
    'keys revoke',
  ]);
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
