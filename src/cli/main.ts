#!/usr/bin/env node
// The `lockstep` command: finds the subcommand, runs it, turns errors into exit codes.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Command, CommanderError } from 'commander';
import { silenceTelemetry } from '../bridge/environment.ts';
import { packageRoot } from '../paths.ts';
import { exitCodes, printError } from './shared/output.ts';
import { applyWeightsOption } from './shared/weights-option.ts';

// Loaded when named, so that `lockstep plan` does not wait for onnxruntime.
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  attach: async () => (await import('./attach.ts')).attachCommand(),
  detach: async () => (await import('./detach.ts')).detachCommand(),
  doctor: async () => (await import('./doctor/command.ts')).doctorCommand(),
  eval: async () => (await import('./eval/command.ts')).evalCommand(),
  export: async () => (await import('./export.ts')).exportCommand(),
  keys: async () => (await import('./keys.ts')).keysCommand(),
  perplexity: async () => (await import('./perplexity.ts')).perplexityCommand(),
  plan: async () => (await import('./plan/command.ts')).planCommand(),
  probe: async () => (await import('./probe.ts')).probeCommand(),
  profile: async () => (await import('./profile/command.ts')).profileCommand(),
  quickstart: async () => (await import('./quickstart/command.ts')).quickstartCommand(),
  recall: async () => (await import('./recall/command.ts')).recallCommand(),
  report: async () => (await import('./report/command.ts')).reportCommand(),
  serve: async () => (await import('./serve/command.ts')).serveCommand(),
  train: async () => (await import('./train/command.ts')).trainCommand(),
  verify: async () => (await import('./verify/command.ts')).verifyCommand(),
};

/** Build the program with the named subcommand; with all of them for help and for misspellings. */
async function makeProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('lockstep')
    .description('Train the way you serve: one definition of segment boundaries for every runtime.')
    .version(version(), '-v, --version', 'print the version')
    .option('--no-color', 'print without colours')
    .helpCommand(false)
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

async function main(args: readonly string[]): Promise<number> {
  try {
    const program = await makeProgram(args);
    if (args.length === 0) program.help({ error: true });
    await program.parseAsync(args, { from: 'user' });
    return exitCodes.ok;
  } catch (error) {
    if (!(error instanceof CommanderError)) return printError(error);
    // Help and version are answers; everything else commander refuses is a usage error.
    return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  }
}

// `lockstep plan ... | head` closes the pipe early; that is no failure of the plan.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(exitCodes.ok);
  throw error;
});

silenceTelemetry();
const code = await main(process.argv.slice(2));
// A command may already have set a code of its own (verify: engines differ).
if (code !== exitCodes.ok) process.exitCode = code;
