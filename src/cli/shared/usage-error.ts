// What commander refuses, as an error of Lockstep: expected, received, and where to look it up.
import type { Command, CommanderError } from 'commander';
import { LockstepError } from '../../errors.ts';

/** Commander's sentences, and what a user reads instead. */
const sentences: readonly [pattern: RegExp, said: (...groups: string[]) => string][] = [
  [
    /^unknown command '(.*)'$/,
    (name) =>
      `expected a command, got ${name === '' ? 'an empty text' : `the unknown command ${name}`}`,
  ],
  [/^missing required argument '(.+)'$/, (name) => `expected the argument <${name}>, got none`],
  [/^required option '(.+)' not specified$/, (flags) => `expected the option ${flags}, got none`],
  [/^option '(.+)' argument missing$/, (flags) => `expected a value for ${flags}, got none`],
  [
    /^option '(\S+).*' argument '([\s\S]*)' is invalid\. (?:expected|Allowed choices are) ([\s\S]+?)\.?$/,
    (option, got, expected) =>
      `${option}: expected ${choice(expected)}, got ${received(got, expected)}`,
  ],
  [
    /^command-argument value '([\s\S]*)' is invalid for argument '(.+)'\. (?:expected|Allowed choices are) (.+)\.$/,
    (got, name, expected) =>
      `<${name}>: expected ${choice(expected)}, got ${received(got, expected)}`,
  ],
  [
    /^option '(--\S+).*' cannot be used with option '(--\S+).*'$/,
    (one, other) => `expected ${one} or ${other}, got both`,
  ],
  [/^more than the version$/, () => 'expected --version alone, got more'],
  [
    /^too many arguments.*\. Expected (\d+) arguments? but got (\d+)\.$/,
    (expected, got) => `too many arguments: expected ${expected}, got ${got}`,
  ],
];

/** `a, b, c` as `a, b or c`, where it is a list of plain words. */
function choice(text: string): string {
  return /^[\w-]+(, [\w-]+)+$/.test(text) ? text.replace(/, ([\w-]+)$/, ' or $1') : text;
}

/** Some parsers of options say themselves what came. */
function received(got: string, expected: string): string {
  if (/, got /.test(expected)) return '';
  return got === '' ? 'an empty text' : got;
}

/**
 * LS_USAGE from an error of commander.
 *
 * @param command the words of the command that refused, such as `keys add`; empty for `lockstep` itself
 * @param owners commands that have the unknown option, by its name
 */
export function usageError(
  error: CommanderError,
  command: string,
  owners: (option: string) => readonly string[],
): LockstepError {
  const text = error.message.replace(/^error: /, '');
  const [first = '', ...rest] = text.split(/\n(?=\(Did you mean)/);
  const meant = /Did you mean (.+)\?/.exec(rest.join(''))?.[1];
  const hints = meant === undefined ? [] : [`Did you mean ${meant}?`];
  const unknown = /^unknown option '(.+)'$/.exec(first)?.[1];
  const name = `lockstep ${command}`.trim();
  const others = unknown === undefined ? [] : owners(unknown);
  if (meant === undefined && others.length > 0) {
    hints.push(`${unknown} is an option of lockstep ${listed(others, command)}.`);
  }
  if (error.code === 'commander.excessArguments') hints.push('Put a path with spaces in quotes.');
  hints.push(
    command === ''
      ? 'lockstep --help lists the commands.'
      : `${name} --help lists its arguments and options.`,
  );
  return new LockstepError(
    'LS_USAGE',
    unknown === undefined
      ? sentenceOf(first)
      : `expected an option of ${name}, got the unknown option ${unknown}`,
    { fix: hints.join(' ') },
  );
}

/** Most names in a hint. */
const mostNames = 4;

/** Names of commands, those below `command` first; of many the first ones and the number of the others. */
function listed(names: readonly string[], command: string): string {
  const below = (name: string): boolean => command !== '' && name.startsWith(`${command} `);
  const sorted = [...names.filter(below), ...names.filter((name) => !below(name))];
  // A name says no less than `and 1 more`.
  if (sorted.length <= mostNames + 1) return sorted.join(', ');
  return `${sorted.slice(0, mostNames).join(', ')} and ${sorted.length - mostNames} more`;
}

function sentenceOf(text: string): string {
  for (const [pattern, said] of sentences) {
    const found = pattern.exec(text);
    if (found !== null) return said(...found.slice(1)).replace(/, got $/, '');
  }
  return text;
}

/** Names of the commands that have an option, and of those below them: `keys add`. */
export function ownersOf(commands: readonly Command[], option: string): string[] {
  const long = option.replace(/=.*/, '');
  return commands.flatMap((command) => [
    ...(command.options.some((one) => one.long === long || one.short === long)
      ? [command.name()]
      : []),
    ...ownersOf(command.commands, option).map((below) => `${command.name()} ${below}`),
  ]);
}
