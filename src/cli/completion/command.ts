// lockstep completion: a script with which a shell completes commands, options and their choices.
import { Argument, Command } from 'commander';
import { bashScript, fishScript, type Known, zshScript } from './scripts.ts';

const shells = { bash: bashScript, fish: fishScript, zsh: zshScript } as const;

/** Commands by name, each with what makes it. */
type Commands = Readonly<Record<string, () => Promise<Command>>>;

export function completionCommand(commands: Commands): Command {
  return new Command('completion')
    .description('print a completion script for your shell')
    .addArgument(new Argument('<shell>', 'your shell').choices(Object.keys(shells)))
    .addHelpText(
      'after',
      `
bash: eval "$(lockstep completion bash)" in ~/.bashrc
zsh:  eval "$(lockstep completion zsh)" in ~/.zshrc, after compinit
fish: lockstep completion fish > ~/.config/fish/completions/lockstep.fish`,
    )
    .action(async (shell: keyof typeof shells) => {
      process.stdout.write(shells[shell](await known(commands)));
    });
}

/** Every command with its options, from the definitions themselves. */
async function known(commands: Commands): Promise<Known[]> {
  return Promise.all(
    Object.entries(commands).map(async ([name, load]) => {
      const command = await load();
      const options = command.createHelp().visibleOptions(command);
      return {
        name,
        description: command.description(),
        options: options.flatMap(({ long, description, argChoices, required, optional }) =>
          long
            ? [{ long, description, choices: argChoices ?? [], value: required || optional }]
            : [],
        ),
        choices: command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
      };
    }),
  );
}
