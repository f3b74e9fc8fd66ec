// Imports in src go one way (AGENTS.md): no circle of files, and no folder uses one above it.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../src/paths.ts';

const src = path.join(packageRoot, 'src');

/** From the bottom up. Other files of `src` itself lie below them all. */
const order = [
  ...['template', 'checkpoint-names.ts', 'policies', 'tokenizer', 'contract', 'weights', 'planner'],
  ...['config', 'checkpoint', 'state', 'bridge', 'engines', 'server', 'cli', 'index.ts'],
];

/** Relative imports of every source file, types' too; both as paths within `src`. */
const imports = new Map(
  readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !/\.test(-d)?\.ts$/.test(file))
    .map((file) => [file, importsOf(file)] as const),
);

function importsOf(file: string): string[] {
  const text = readFileSync(path.join(src, file), 'utf8').replace(/^\s*(\/\/|\*|\/\*).*$/gm, '');
  return [...text.matchAll(/(?:^(?:import|export|\}).* from |\bimport\()'(\.[^']+)'/gm)].map(
    ([, to]) => path.join(path.dirname(file), to ?? ''),
  );
}

/** A file that leads back to itself, by what it imports: the way there, or null. */
function circle(): string[] | null {
  const done = new Set<string>();
  const visit = (file: string, way: string[]): string[] | null => {
    if (way.includes(file)) return [...way.slice(way.indexOf(file)), file];
    if (done.has(file)) return null;
    for (const next of imports.get(file) ?? []) {
      const found = visit(next, [...way, file]);
      if (found !== null) return found;
    }
    done.add(file);
    return null;
  };
  for (const file of imports.keys()) {
    const found = visit(file, []);
    if (found !== null) return found;
  }
  return null;
}

function floor(file: string): number {
  const [top = ''] = file.split(path.sep);
  const found = order.indexOf(top);
  if (found < 0 && top.endsWith('.ts')) return 0;
  expect(found, `${top}: expected a place in the order of folders`).toBeGreaterThanOrEqual(0);
  return found + 1;
}

test('all imports are found', () => {
  expect(imports.size).toBeGreaterThan(200);
  for (const [file, targets] of imports) {
    for (const target of targets) {
      // The command line shares the legend with the page, which is JavaScript.
      const found = imports.has(target) || existsSync(path.join(src, target));
      expect(found, `${file} imports ${target}`).toBe(true);
    }
  }
});

test('no file imports itself through others', () => {
  expect(circle()).toBe(null);
});

test('each folder uses only what is below it', () => {
  const upward = [...imports].flatMap(([file, targets]) =>
    targets.filter((to) => floor(to) > floor(file)).map((to) => `${file} uses ${to}`),
  );
  expect(upward).toEqual([]);
});
