// Prints what every subcommand of the built `lockstep` takes, as {"plan": {"flags": ["--config", ...], "valued":
// ["--config", ...], "most": 1}, ...}; one with subcommands of its own as {"keys": null, "keys add": {...}, ...}.
const { commands } = await import(new URL('../../dist/cli/commands.js', import.meta.url));
const found = {};
const names = (options) => options.flatMap(({ long, short }) => [long, short ?? long]);
const takes = ({ options, registeredArguments }) => ({
  flags: names(options),
  valued: names(options.filter(({ required, optional }) => required || optional)),
  most: registeredArguments.some(({ variadic }) => variadic) ? null : registeredArguments.length,
});
for (const make of Object.values(commands)) {
  const command = await make();
  found[command.name()] = command.commands.length === 0 ? takes(command) : null;
  for (const below of command.commands) found[`${command.name()} ${below.name()}`] = takes(below);
}
process.stdout.write(JSON.stringify(found));
