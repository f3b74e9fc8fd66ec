// The bundler's lists and those of the frozen runtime allow the same names.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'acorn';
import { simple } from 'acorn-walk';
import { expect, test } from 'vitest';
import { packageRoot } from '../../paths.ts';
import { allowedGlobals, exactMath } from './globals.ts';

/** The list of strings that the runtime declares under this name. */
function listOfRuntime(name: string): string[] {
  const file = path.join(packageRoot, 'src/planner/runtime/policy-runtime.v1.js');
  const lists: string[][] = [];
  simple(parse(readFileSync(file, 'utf8'), { ecmaVersion: 'latest' }), {
    VariableDeclarator({ id, init }) {
      if (id.type !== 'Identifier' || id.name !== name || init?.type !== 'ArrayExpression') return;
      lists.push(
        init.elements.map((one) => (one?.type === 'Literal' ? String(one.value) : 'no literal')),
      );
    },
  });
  expect(lists).toHaveLength(1);
  return lists[0] as string[];
}

test.each([
  ['allowedGlobals', allowedGlobals],
  ['exactMath', exactMath],
])('%s is the same list in the bundler and in the runtime', (name, ours) => {
  expect(listOfRuntime(name)).toEqual(ours);
});
