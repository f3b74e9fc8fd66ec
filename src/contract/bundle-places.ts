// From a place in policy.js through what was added to it and esbuild's map to the author's file.
import type { SourceMap } from 'node:module';
import { offsetOf, placeIn, positionOf } from '../code-frame.ts';
import type { SourcePlace } from '../errors.ts';
import type { Instrumented } from './analysis/insertions.ts';
import type { ModuleNames } from './bundle-modules.ts';
import type { PlaceFinder } from './policy-places.ts';

export interface BundleParts {
  /** policy.js: `head`, then `body`. */
  readonly source: string;
  readonly head: string;
  readonly body: Instrumented;
  /** What esbuild wrote, and its map with the modules' texts. */
  readonly bundle: string;
  readonly map: SourceMap;
  readonly names: ModuleNames;
}

/** Places in modules of the policy's author, and of packages it imports; none in Lockstep's own. */
export function authorsPlaces(parts: BundleParts): PlaceFinder {
  const { source, head, body, bundle, map, names } = parts;
  return (line, column) => {
    const offset = body.original(offsetOf(source, line, column) - head.length);
    if (offset < 0) return undefined;
    const at = positionOf(bundle, offset);
    return placeBefore(map, names, at.line, at.column);
  };
}

/** The author's place of one in what esbuild wrote: line from 1, column from 0. */
export function placeBefore(
  map: SourceMap,
  names: ModuleNames,
  line: number,
  column: number,
): SourcePlace | undefined {
  const origin = map.findEntry(line - 1, column);
  if (!('originalSource' in origin)) return undefined;
  const { originalSource, originalLine, originalColumn } = origin;
  const file = names.files.get(originalSource);
  if (file === undefined || !/^(policy|npm):/.test(originalSource)) return undefined;
  const { sources, sourcesContent } = map.payload;
  const text = sourcesContent[sources.indexOf(originalSource)] ?? '';
  return placeIn(file, text, originalLine + 1, originalColumn + 1);
}
