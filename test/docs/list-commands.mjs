// Prints the options of every subcommand of the built `lockstep`, as {"plan": ["--config", ...], ...}.
import { readFileSync } from 'node:fs';

const folder = new URL('../../dist/cli/', import.meta.url);
const table = readFileSync(new URL('commands.js', folder), 'utf8');
const found = {};
for (const [, file, make] of table.matchAll(/import\(['"](\.\/[^'"]+)['"]\)\)\.(\w+)\(\)/g)) {
  const command = (await import(new URL(file, folder)))[make]();
  found[command.name()] = command.options.flatMap(({ long, short }) => [long, short ?? long]);
}
process.stdout.write(JSON.stringify(found));
