// From a place in policy.js through what was added to it and esbuild's map to the author's file.
import type { SourceMap } from 'node:module';
import { placeIn } from '../code-frame.ts';
import type { PlaceFinder } from '../planner/policy-places.ts';
import type { Instrumented } from './analysis/instrument.ts';
import type { ModuleNames } from './bundle-modules.ts';

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
  const lines = lineStarts(source);
  const bundleLines = lineStarts(bundle);
  return (line, column) => {
    const start = lines[line - 1];
    if (start === undefined) return undefined;
    const offset = body.original(start + column - head.length);
    const at = bundleLines.findLastIndex((first) => first <= offset);
    if (at === -1) return undefined;
    const origin = map.findEntry(at, offset - (bundleLines[at] as number));
    if (!('originalSource' in origin)) return undefined;
    const { originalSource, originalLine, originalColumn } = origin;
    const file = names.files.get(originalSource);
    if (file === undefined || !/^(policy|npm):/.test(originalSource)) return undefined;
    const { sources, sourcesContent } = map.payload;
    const text = sourcesContent[sources.indexOf(originalSource)] ?? '';
    return placeIn(file, text, originalLine + 1, originalColumn + 1);
  };
}

/** Offset of each line's first character. */
function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return starts;
}
