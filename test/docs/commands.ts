// What the documentation's shell commands name: subcommands and options of `lockstep`, npm scripts, files.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { packageRoot } from '../../src/paths.ts';

export interface Takes {
  flags: ReadonlySet<string>;
  /** Options with a value. */
  valued: ReadonlySet<string>;
  /** How many arguments, at most. */
  most: number;
}

/** What subcommands take, as `lockstep --help` and `lockstep NAME --help` list it; null where one has subcommands. */
export type Commands = ReadonlyMap<string, Takes | null>;

export function lockstepCommands(): Commands {
  const script = path.join(import.meta.dirname, 'list-commands.mjs');
  const printed = execFileSync(process.execPath, [script], { encoding: 'utf8' });
  type Listed = { flags: string[]; valued: string[]; most: number | null };
  return new Map(
    Object.entries(JSON.parse(printed) as Record<string, Listed | null>).map(([name, listed]) => [
      name,
      listed && {
        flags: new Set([...listed.flags, '--help', '-h', '--no-color']),
        valued: new Set(listed.valued),
        most: listed.most ?? Number.POSITIVE_INFINITY,
      },
    ]),
  );
}

/** What is wrong with the commands of a shell text; `count` is told of every command of ours. */
export function shellProblems(text: string, commands: Commands, count: () => void): string[] {
  const lines = text.replace(/\\\n/g, ' ').split('\n');
  return lines.flatMap((line) =>
    split(line).flatMap((words) => {
      const problem = commandProblem(words, commands);
      if (problem !== undefined) count();
      return problem ? [`${words.join(' ')}: ${problem}`] : [];
    }),
  );
}

/** '' where the command is right, undefined where it is not one of ours. */
function commandProblem(words: string[], commands: Commands): string | undefined {
  const [first, ...rest] = words.filter((word) => word !== 'npx');
  if (first === 'lockstep') return lockstepProblem(rest, commands);
  if (first === 'npm' && rest[0] === 'run') return npmProblem(rest.slice(1), commands);
  if (first === 'npm' && ['start', 'test'].includes(rest[0] ?? '')) return '';
  if (first === 'python' || first === 'node' || first?.endsWith('/python')) {
    const [file] = rest;
    if (file === undefined || !/^(bench|scripts|examples)\//.test(file)) return undefined;
    return existsSync(path.join(packageRoot, file)) ? '' : `there is no ${file}`;
  }
  return undefined;
}

function npmProblem([script, ...rest]: string[], commands: Commands): string {
  const { scripts } = JSON.parse(readFileSync(path.join(packageRoot, 'package.json'), 'utf8'));
  if (script === undefined || scripts[script] === undefined) return `there is no script ${script}`;
  const run = /scripts\/run\.mjs (\w+)$/.exec(scripts[script]);
  return run === null ? '' : lockstepProblem([run[1] as string, ...rest.slice(1)], commands);
}

function lockstepProblem([name, ...args]: string[], commands: Commands): string {
  if (name === undefined || name.startsWith('-')) return '';
  const takes = commands.get(name);
  if (takes === undefined) return `there is no subcommand ${name}`;
  // `lockstep keys` alone names the command and runs nothing.
  if (takes === null) {
    return args[0] === undefined
      ? ''
      : lockstepProblem([`${name} ${args[0]}`, ...args.slice(1)], commands);
  }
  const end = args.indexOf('--');
  const given = (end === -1 ? args : args.slice(0, end)).map((arg) => arg.replace(/[[\]]/g, ''));
  const isFlag = (arg: string) => /^--?[a-z]/.test(arg);
  const flags = given.filter(isFlag).map((arg) => arg.split('=')[0] as string);
  const strange = flags.filter((flag) => !takes.flags.has(flag));
  if (strange.length > 0) return `lockstep ${name} has no ${strange.join(', ')}`;
  const places = given.filter(
    (arg, at) => !isFlag(arg) && arg !== '' && !takes.valued.has(given[at - 1] ?? ''),
  );
  return places.length <= takes.most ? '' : `lockstep ${name} takes ${takes.most}: ${places}`;
}

/** Commands of a line, as words: no comments, no variables before them, `|`, `&&` and `;` end one. */
function split(line: string): string[][] {
  const words = line.match(/"[^"]*"|'[^']*'|[^\s"']+/g) ?? [];
  const commands: string[][] = [[]];
  for (const word of words) {
    if (word.startsWith('#')) break;
    const current = commands.at(-1) as string[];
    if (['|', '&&', '||', ';', '&'].includes(word)) commands.push([]);
    else if (current.length > 0 || !/^([A-Z_]+=.*|\$|time|nice)$/.test(word)) {
      current.push(word.replace(/[;),]+$/, ''));
      if (/;$/.test(word)) commands.push([]);
    }
  }
  return commands.filter((command) => command.length > 0);
}
