import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { python } from '../../../test/helpers/python.ts';
import { matching } from './patterns.ts';

const root = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'ls-patterns-')));
afterAll(() => rmSync(root, { recursive: true }));
for (const name of [
  'a.txt',
  'b.txt',
  'ab.txt',
  '.c.txt',
  'd/a.txt',
  'd/e/f.md',
  'd/.g/h.txt',
  'x[1].txt',
  'x1.txt',
  'a+b(1).txt',
]) {
  mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
  writeFileSync(path.join(root, name), '');
}
symlinkSync(root, path.join(root, 'd', 'round'));

it.each([
  '*.txt',
  '?.txt',
  '[!a].txt',
  '[ab].txt',
  '.*.txt',
  'd/*',
  '*/*.txt',
  '*/../a.txt',
  'a+*.txt',
  'x[1].txt',
  'x[[]1].txt',
  '{a,b}.txt',
  'nope*',
  'd/e/**',
])('%s names what Python finds', async (pattern) => {
  const whole = `${root}/${pattern}`;
  const script = `
import glob, json, os, sys
name = sys.argv[1]
print(json.dumps([name] if os.path.exists(name) else glob.glob(name, recursive=True)))`;
  const found = JSON.parse(execFileSync(python, ['-c', script, whole], { encoding: 'utf8' }));
  const places = (list: string[]) => [...new Set(list.map((one) => realpathSync(one)))].sort();
  expect(places(await matching(whole))).toEqual(places(found));
});

it('** goes round in no circle', async () => {
  const found = await matching(path.join(root, '**', '*.txt'));
  expect(found.map((one) => path.relative(root, one))).toEqual([
    'a+b(1).txt',
    'a.txt',
    'ab.txt',
    'b.txt',
    'd/a.txt',
    'x1.txt',
    'x[1].txt',
  ]);
});
