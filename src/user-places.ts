// Where in the user's own files an error was thrown, while a config runs or code of it later on.
import { readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import path from 'node:path';
import { placeIn } from './code-frame.ts';
import type { SourcePlace } from './errors.ts';
import { packageRoot } from './paths.ts';

/** Source maps of the configs that this process ran, by file. */
const maps = new Map<string, SourceMap>();

/** Remember the map of a config's bundle, which esbuild wrote into it. */
export function rememberConfig(file: string, code: string): void {
  const encoded = /\/\/# sourceMappingURL=data:application\/json;base64,(\S+)\s*$/.exec(code)?.[1];
  if (encoded === undefined) return;
  maps.set(file, new SourceMap(JSON.parse(Buffer.from(encoded, 'base64').toString('utf8'))));
}

const inputs = new Map<string, readonly string[]>();

/** Remember which files a config is made of: itself and what it imports. */
export function rememberInputs(file: string, files: readonly string[]): void {
  inputs.set(file, files);
}

/** The files that a config was made of when it was loaded last; the config alone before. */
export function filesOfConfig(file: string): readonly string[] {
  const absolute = path.resolve(file);
  return inputs.get(absolute) ?? [absolute];
}

/** The first place of an error's stack that lies in a file of the user's. */
export function placeInConfig(error: unknown): SourcePlace | undefined {
  const stack = (error as Error | undefined)?.stack;
  if (typeof stack !== 'string') return undefined;
  for (const frame of stack.split('\n')) {
    for (const [file, map] of maps) {
      const start = frame.indexOf(`${file}:`);
      const match = start === -1 ? null : /^:(\d+):(\d+)/.exec(frame.slice(start + file.length));
      if (match === null) continue;
      const entry = map.findEntry(Number(match[1]) - 1, Number(match[2]) - 1);
      if (!('originalSource' in entry)) continue;
      const source = path.resolve(path.dirname(file), entry.originalSource);
      // The frames of this package's own policies, and of the module that stands for it, say nothing.
      if (isOwn(source) || entry.originalSource.startsWith('lockstep:')) continue;
      return placeIn(source, textOf(source), entry.originalLine + 1, entry.originalColumn + 1);
    }
  }
  return undefined;
}

/** Whether a file is of this package. Of src/ and dist/, as a map of dist/ leads to src/, whether or not that is there. */
export function isOwn(source: string): boolean {
  return ['src', 'dist'].some((folder) =>
    source.startsWith(path.join(packageRoot, folder) + path.sep),
  );
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
