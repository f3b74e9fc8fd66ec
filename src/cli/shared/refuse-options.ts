// What no command takes: an option without text in its value, an option beside its own opposite.
import { type Command, CommanderError } from 'commander';

/** Refuse such options of a command, whatever it is; its other checks are its own. */
export function refuseOptions(command: Command): void {
  const given = new Set<string>();
  for (const option of command.options) {
    const long = option.long ?? option.flags;
    const opposite = option.negate ? long.replace(/^--no-/, '--') : long.replace(/^--/, '--no-');
    command.on(`option:${option.name()}`, (value: string | null) => {
      // A shell's variable that is not set.
      if (value === '')
        throw refused(`option '${option.flags}' argument '' is invalid. expected a value.`);
      given.add(long);
      if (!given.has(opposite)) return;
      const [positive, negative] = option.negate ? [opposite, long] : [long, opposite];
      throw refused(`option '${positive}' cannot be used with option '${negative}'`);
    });
  }
  command.hook('preAction', (_, action) => {
    for (const [at, argument] of action.registeredArguments.entries()) {
      if (argument.variadic || action.args[at] !== '') continue;
      throw refused(
        `command-argument value '' is invalid for argument '${argument.name()}'. expected a value.`,
      );
    }
  });
}

function refused(words: string): CommanderError {
  return new CommanderError(1, 'commander.invalidArgument', `error: ${words}`);
}
