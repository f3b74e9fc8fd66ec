// Prints the options of every subcommand of the built `lockstep`, as {"plan": ["--config", ...], ...}; one with
// subcommands of its own as {"keys": null, "keys add": [...], ...}.
import { readFileSync } from 'node:fs';

const folder = new URL('../../dist/cli/', import.meta.url);
const main = readFileSync(new URL('main.js', folder), 'utf8');
const found = {};
for (const [, file, make] of main.matchAll(/import\(['"](\.\/[^'"]+)['"]\)\)\.(\w+)\(\)/g)) {
  const command = (await import(new URL(file, folder)))[make]();
  const flags = ({ options }) => options.flatMap(({ long, short }) => [long, short ?? long]);
  found[command.name()] = command.commands.length === 0 ? flags(command) : null;
  for (const below of command.commands) found[`${command.name()} ${below.name()}`] = flags(below);
}
process.stdout.write(JSON.stringify(found));
