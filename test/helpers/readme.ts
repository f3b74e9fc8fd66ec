// The commands of an example's README, as a reader copies them.
import { readPage } from '../docs/markdown.ts';

/** Lines of the first shell block of examples/NAME/README.md, without comments. */
export function readmeCommands(name: string): string[] {
  const { blocks } = readPage(`examples/${name}/README.md`);
  const text = blocks.find(({ language }) => language === 'sh')?.text ?? '';
  return text
    .replaceAll('\\\n', ' ')
    .split('\n')
    .map((line) => line.replace(/\s+#.*$/, '').trim())
    .filter(Boolean);
}

/** What the README's commands `npx lockstep SUBCOMMAND` say beside `--config`, a list for each. */
export function readmeArguments(name: string, subcommand: string): string[][] {
  const start = new RegExp(`^(npx )?lockstep ${subcommand} `);
  return readmeCommands(name)
    .filter((line) => start.test(line))
    .map((line) =>
      line
        .replace(start, '')
        .replace(/--config \S+ ?/, '')
        .split(/\s+/)
        .filter(Boolean),
    );
}
