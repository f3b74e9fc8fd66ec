// Prints the options of every subcommand of the built `lockstep`, as {"plan": ["--config", ...], ...}; one with
// subcommands of its own as {"keys": null, "keys add": [...], ...}.
const { commands } = await import(new URL('../../dist/cli/commands.js', import.meta.url));
const found = {};
const flags = ({ options }) => options.flatMap(({ long, short }) => [long, short ?? long]);
for (const make of Object.values(commands)) {
  const command = await make();
  found[command.name()] = command.commands.length === 0 ? flags(command) : null;
  for (const below of command.commands) found[`${command.name()} ${below.name()}`] = flags(below);
}
process.stdout.write(JSON.stringify(found));
