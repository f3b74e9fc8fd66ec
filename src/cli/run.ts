// Runs one command line of `lockstep`: finds the subcommand, runs it, turns errors into exit codes.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Command, CommanderError } from 'commander';
import { packageRoot } from '../paths.ts';
import { commands, groupOf } from './commands.ts';
import { exitCodes, printError, printJsonError } from './shared/output.ts';
import { refuseOptions } from './shared/refuse-options.ts';
import { ownersOf, usageError } from './shared/usage-error.ts';
import { applyWeightsOption } from './shared/weights-option.ts';

const examples = `
From a model to a server:
  lockstep init                 writes lockstep.config.ts
  lockstep train                trains the model in segments, into runs/NAME
  lockstep export runs/NAME     writes the graph that ONNX Runtime runs
  lockstep verify runs/NAME     compares the engines with the trainer
  lockstep serve runs/NAME      serves it on http://127.0.0.1:8080

lockstep COMMAND --help shows the options of a command.`;

/** Build the program with the named subcommand; with all of them for help and for misspellings. */
async function makeProgram(words: readonly string[]): Promise<Command> {
  const program = new Command('lockstep')
    .description('Train the way you serve: one definition of segment boundaries for every runtime.')
    .option('-v, --version', 'print the version')
    .option('--no-color', 'print without colours')
    .commandsGroup('Set up:')
    .helpCommand('help [command]', 'show the help of a command')
    .showSuggestionAfterError(true)
    // What is wrong is printed as every other error (usage-error.ts).
    .configureOutput({ outputError: () => {} })
    .addHelpText('after', examples)
    .exitOverride()
    .hook('preAction', (command, action) => {
      if (command.opts()['color'] === false) process.env['NO_COLOR'] = '1';
      applyWeightsOption(action.opts());
    })
    // Where it is all that is asked for, it was answered already.
    .on('option:version', () => program.error('error: more than the version'));
  const named = namedIn(words);
  const wanted = named === undefined ? Object.values(commands) : [commands[named]];
  for (const load of wanted) {
    const command = await load?.();
    if (command !== undefined) program.addCommand(prepared(command, program));
  }
  return program;
}

const helpWord = 'help';

/** What names a command: nothing before it is an option with a value. Behind `--` stand the flags of vLLM. */
function wordsOf(args: readonly string[]): string[] {
  return argsOf(args).filter((arg) => !arg.startsWith('-'));
}

function argsOf(args: readonly string[]): readonly string[] {
  const end = args.indexOf('--');
  return args.slice(0, end === -1 ? undefined : end);
}

/**
 * Find the command that a line names, and show its help where `help` is among the words. Commander itself
 * answers `help plam`, `plam --help` and `help plan train` with a help that nobody asked for.
 *
 * @throws commander's error for a word that names no command, and for one too many behind `help`
 */
async function checkWords(program: Command, words: readonly string[]): Promise<void> {
  const path: string[] = [];
  let command = program;
  let asked = false;
  for (const word of words) {
    if (command.commands.length === 0) {
      if (!asked) return;
      const [expected, got] = [path.length, words.filter((one) => one !== helpWord).length];
      program.error(
        `error: too many arguments for 'help'. Expected ${expected} arguments but got ${got}.`,
      );
    }
    if (word === helpWord) {
      asked = true;
      continue;
    }
    path.push(word);
    const below = command.commands.find((one) => one.name() === word);
    if (below === undefined) {
      // Refused, with the name that may be meant.
      await program.parseAsync(path, { from: 'user' });
      return;
    }
    command = below;
  }
  if (asked) command.help();
}

/** The program's settings for a command and the commands below it; defaults as a user would type them. */
function prepared(command: Command, program: Command): Command {
  command.copyInheritedSettings(program);
  // The heading of the program's own `help` comes along with it.
  command.helpCommand('help [command]', 'show the help of a command');
  command.helpCommand(command.commands.length > 0);
  refuseOptions(command);
  const group = groupOf(command.name());
  if (group !== undefined) command.helpGroup(group);
  for (const option of command.options) {
    const value: unknown = option.defaultValue;
    if (option.defaultValueDescription !== undefined) continue;
    if (Array.isArray(value)) option.defaultValueDescription = value.join(',');
    else if (typeof value === 'string' && value.startsWith(packageRoot + path.sep)) {
      option.defaultValueDescription = `${path.relative(packageRoot, value)} of Lockstep`;
    }
  }
  for (const below of command.commands) prepared(below, program);
  return command;
}

function version(): string {
  const file = path.join(packageRoot, 'package.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/**
 * Run `lockstep ARGS`.
 *
 * @returns the exit code; a command may also have set `process.exitCode` (verify: engines differ)
 */
export async function run(args: readonly string[]): Promise<number> {
  const words = wordsOf(args);
  if (asksVersion(args)) {
    process.stdout.write(`${version()}\n`);
    return exitCodes.ok;
  }
  try {
    const program = await makeProgram(words);
    if (args.length === 0) program.help({ error: true });
    await checkWords(program, words);
    await program.parseAsync(args, { from: 'user' });
    return exitCodes.ok;
  } catch (error) {
    const json = asksJson(args);
    if (!(error instanceof CommanderError)) {
      if (json) printJsonError(error);
      return printError(error);
    }
    // Help is an answer; everything else commander refuses is a usage error.
    if (error.exitCode === 0) return exitCodes.ok;
    if (error.code === 'commander.help') return exitCodes.usage;
    const all = await Promise.all(Object.values(commands).map((load) => load()));
    const refused = usageError(error, commandPath(words, all), (option) => ownersOf(all, option));
    if (json) printJsonError(refused);
    return printError(refused);
  }
}

/** The command that a line names; undefined where it names none. */
export function commandOf(args: readonly string[]): string | undefined {
  return namedIn(wordsOf(args));
}

function namedIn(words: readonly string[]): string | undefined {
  const first = words.find((word) => word !== helpWord);
  return first !== undefined && Object.hasOwn(commands, first) ? first : undefined;
}

/** The command that a line names, with the one below it: `keys add`. */
function commandPath(words: readonly string[], all: readonly Command[]): string {
  const [first, second] = words.filter((word) => word !== helpWord);
  const command = all.find((one) => one.name() === first);
  const below = command?.commands.find((one) => one.name() === second);
  return [command, below].flatMap((one) => (one === undefined ? [] : [one.name()])).join(' ');
}

/** Whether the version is all that a line asks for: no command is loaded for it. */
function asksVersion(args: readonly string[]): boolean {
  const rest = args.filter((arg) => arg !== '--no-color');
  return rest.length > 0 && rest.every((arg) => arg === '-v' || arg === '--version');
}

/** Whether a line asks for the help of a command. */
export function asksHelp(args: readonly string[]): boolean {
  return args[0] === helpWord || argsOf(args).some((arg) => arg === '--help' || arg === '-h');
}

/** Whether stdout belongs to a program. */
export function asksJson(args: readonly string[]): boolean {
  return argsOf(args).includes('--json');
}
