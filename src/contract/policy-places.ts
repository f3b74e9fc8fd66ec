// From a place in policy.js to the place in its author's file, where this process made the bundle.
import { parse } from 'acorn';
import { fullAncestor } from 'acorn-walk';
import { offsetOf, placeIn, positionOf } from '../code-frame.ts';
import type { SourcePlace } from '../errors.ts';
import type { Instrumented } from './analysis/insertions.ts';

/** The author's place for a line (from 1) and a column (from 0) of policy.js; undefined where there is none. */
export type PlaceFinder = (line: number, column: number) => SourcePlace | undefined;

/** By text of policy.js. A process makes a few bundles, so the oldest go first. */
const finders = new Map<string, PlaceFinder>();
const most = 64;

/** Remember where the code of a bundle comes from. */
export function rememberPlaces(policySource: string, finder: PlaceFinder): void {
  finders.delete(policySource);
  finders.set(policySource, finder);
  for (const oldest of finders.keys()) {
    if (finders.size <= most) break;
    finders.delete(oldest);
  }
}

/**
 * Where the author's code failed, by the stack of the traced policy. Of a checkpoint's policy.js, whose author's
 * files are not here, the place in policy.js itself.
 */
export function placeOfStack(
  policySource: string,
  policy: Instrumented,
  stack: string,
): SourcePlace | undefined {
  const finder = finders.get(policySource);
  for (const [, line, column] of stack.matchAll(/\bpolicy\.js:(\d+):(\d+)/g)) {
    const offset = policy.original(offsetOf(policy.text, Number(line), Number(column) - 1));
    const at = positionOf(policySource, offset);
    const place = placeAt(policySource, finder, at.line, at.column);
    if (place !== undefined) return place;
  }
  return undefined;
}

/** Where the policy's `push` is defined. It is shown where the runtime refuses its answer or state, as that error has no stack. */
export function placeOfPush(policySource: string, name: string): SourcePlace | undefined {
  const found: { line: number; column: number }[] = [];
  const program = parse(policySource, { ecmaVersion: 2022, locations: true });
  fullAncestor(program, (node) => {
    if (node.type !== 'ObjectExpression') return;
    const properties = node.properties.filter((property) => property.type === 'Property');
    const propertyOf = (key: string) =>
      properties.find(
        (property) => property.key.type === 'Identifier' && property.key.name === key,
      );
    const named = propertyOf('name')?.value;
    if (named?.type !== 'Literal' || named.value !== name) return;
    const start = propertyOf('push')?.key.loc?.start;
    if (start) found.push(start);
  });
  const [only] = found;
  if (only === undefined || found.length > 1) return undefined;
  return placeAt(policySource, finders.get(policySource), only.line, only.column);
}

function placeAt(
  policySource: string,
  finder: PlaceFinder | undefined,
  line: number,
  column: number,
): SourcePlace | undefined {
  if (finder !== undefined) return finder(line, column);
  return placeIn('policy.js', policySource, line, column + 1);
}
