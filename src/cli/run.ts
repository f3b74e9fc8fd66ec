// Runs one command line of `lockstep`: finds the subcommand, runs it, turns errors into exit codes.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Command, CommanderError } from 'commander';
import { packageRoot } from '../paths.ts';
import { commands, groupOf } from './commands.ts';
import { exitCodes, printError, printJsonError } from './shared/output.ts';
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
async function makeProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('lockstep')
    .description('Train the way you serve: one definition of segment boundaries for every runtime.')
    .version(version(), '-v, --version', 'print the version')
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
    });
  const named = commandOf(args);
  const wanted = named === undefined ? Object.values(commands) : [commands[named]];
  for (const load of wanted) {
    const command = await load?.();
    if (command !== undefined) program.addCommand(prepared(command, program));
  }
  return program;
}

/** The program's settings for a command and the commands below it; defaults as a user would type them. */
function prepared(command: Command, program: Command): Command {
  command.copyInheritedSettings(program);
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
  try {
    const program = await makeProgram(args);
    if (args.length === 0) program.help({ error: true });
    await program.parseAsync(args, { from: 'user' });
    return exitCodes.ok;
  } catch (error) {
    const json = asksJson(args);
    if (!(error instanceof CommanderError)) {
      if (json) printJsonError(error);
      return printError(error);
    }
    // Help and version are answers; everything else commander refuses is a usage error.
    if (error.exitCode === 0) return exitCodes.ok;
    if (error.code === 'commander.help') return exitCodes.usage;
    const all = await Promise.all(Object.values(commands).map((load) => load()));
    const refused = usageError(error, wordsOf(args, all), (option) => ownersOf(all, option));
    if (json) printJsonError(refused);
    return printError(refused);
  }
}

/** The command that a line names; undefined where it names none. */
export function commandOf(args: readonly string[]): string | undefined {
  return args.find((arg) => Object.hasOwn(commands, arg));
}

/** The command that a line names, with the one below it: `keys add`. */
function wordsOf(args: readonly string[], all: readonly Command[]): string {
  const named = commandOf(args);
  const command = all.find((one) => one.name() === named);
  const below = command?.commands.find((one) => args.includes(one.name()));
  return [command, below].flatMap((one) => (one === undefined ? [] : [one.name()])).join(' ');
}

/** Whether a line asks for the help of a command. */
export function asksHelp(args: readonly string[]): boolean {
  return args[0] === 'help' || args.includes('--help') || args.includes('-h');
}

/** Whether stdout belongs to a program; behind `--` stand the flags of vLLM. */
export function asksJson(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return args.slice(0, end === -1 ? undefined : end).includes('--json');
}
