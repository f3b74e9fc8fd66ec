// Runs one command line of `lockstep`: finds the subcommand, runs it, turns errors into exit codes.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Command, CommanderError } from 'commander';
import { LockstepError } from '../errors.ts';
import { packageRoot } from '../paths.ts';
import { commands } from './commands.ts';
import { exitCodes, printError, printJsonError } from './shared/output.ts';
import { applyWeightsOption } from './shared/weights-option.ts';

/** Build the program with the named subcommand; with all of them for help and for misspellings. */
async function makeProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('lockstep')
    .description('Train the way you serve: one definition of segment boundaries for every runtime.')
    .version(version(), '-v, --version', 'print the version')
    .option('--no-color', 'print without colours')
    .helpCommand('help [command]', 'show the help of a command')
    .showSuggestionAfterError(true)
    .showHelpAfterError('(lockstep --help lists commands and options)')
    .exitOverride()
    .hook('preAction', (command, action) => {
      if (command.opts()['color'] === false) process.env['NO_COLOR'] = '1';
      applyWeightsOption(action.opts());
    });
  const named = args.find((arg) => Object.hasOwn(commands, arg));
  const wanted = named === undefined ? Object.values(commands) : [commands[named]];
  for (const load of wanted) {
    const command = await load?.();
    if (command !== undefined) program.addCommand(command.copyInheritedSettings(program));
  }
  return program;
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
    if (json) printJsonError(new LockstepError('LS_USAGE', error.message.replace(/^error: /, '')));
    return exitCodes.usage;
  }
}

/** Whether stdout belongs to a program; behind `--` stand the flags of vLLM. */
function asksJson(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return args.slice(0, end === -1 ? undefined : end).includes('--json');
}
