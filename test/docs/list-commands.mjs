// Prints the options of every subcommand of the built `lockstep`, as {"plan": ["--config", ...], ...}.
const { commands } = await import(new URL('../../dist/cli/commands.js', import.meta.url));
const found = {};
for (const make of Object.values(commands)) {
  const command = await make();
  found[command.name()] = command.options.flatMap(({ long, short }) => [long, short ?? long]);
}
process.stdout.write(JSON.stringify(found));
