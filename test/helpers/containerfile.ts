// A Containerfile: its instructions, and its COPYs carried out in folders.
import { cpSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { packageRoot } from '../../src/paths.ts';

export interface Stage {
  /** What stands after FROM. */
  from: string;
  instructions: [name: string, rest: string][];
}

/** Its stages, in order; lines that continue are one. */
export function stagesOf(name: string): Stage[] {
  const text = readFileSync(path.join(packageRoot, 'deploy', name), 'utf8');
  const lines = text
    .replace(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'));
  const found: Stage[] = [];
  for (const line of lines) {
    const [, word, rest] = /^\s*([A-Z]+)\s+(.*)$/.exec(line) as unknown as [string, string, string];
    if (word === 'FROM') found.push({ from: rest, instructions: [] });
    else found.at(-1)?.instructions.push([word, rest]);
  }
  return found;
}

/** The arguments of each instruction of this name. */
export function argumentsOf(stage: Stage, word: string): string[] {
  return stage.instructions.filter(([own]) => own === word).map(([, rest]) => rest);
}

export interface Copy {
  /** The folder of the stage `build`, or this repository. */
  fromBuild: boolean;
  sources: string[];
  to: string;
}

export function copiesOf(stage: Stage): Copy[] {
  return argumentsOf(stage, 'COPY').map((rest) => {
    const words = rest.trim().split(/\s+/);
    const fromBuild = words[0] === '--from=build';
    const files = fromBuild ? words.slice(1) : words;
    return { fromBuild, sources: files.slice(0, -1), to: files.at(-1) as string };
  });
}

const WORKDIR = '/opt/lockstep';

/**
 * Carry out the COPYs of a stage whose sources lie below the working folder. Packages are linked.
 *
 * @param build folder of the stage `build`
 */
export function copyStage(stage: Stage, to: string, build?: string): void {
  mkdirSync(to, { recursive: true });
  for (const copy of copiesOf(stage)) {
    const root = copy.fromBuild ? (build as string) : packageRoot;
    for (const source of copy.sources) {
      const inside = copy.fromBuild ? path.relative(WORKDIR, source) : source;
      if (inside.startsWith('..')) continue; // Node itself
      const target = /^\.?\/?$/.test(copy.to) ? path.join(to, path.basename(inside)) : copy.to;
      put(path.join(root, inside), path.resolve(to, target));
    }
  }
}

/** Copy a file or folder without what `.gitignore` names; link packages. */
function put(from: string, to: string): void {
  if (path.basename(from) === 'node_modules') symlinkSync(from, to);
  else {
    const filter = (file: string) => !/__pycache__|\.egg-info|\.test\.ts$/.test(file);
    cpSync(from, to, { recursive: true, filter });
  }
}
