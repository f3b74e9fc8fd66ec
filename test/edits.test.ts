// Checkpoints changed by hand: Node, Python and `lockstep serve` accept and refuse the same ones.
// LOCKSTEP_UPDATE_DOCS=1 writes the table into docs/contract.md; without it a stale one fails.
import { execFileSync } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findPython, type Python, pythonEnvironment } from '../src/bridge/index.ts';
import { attach } from '../src/checkpoint/index.ts';
import { packageRoot } from '../src/paths.ts';
import { sentences } from '../src/policies/index.ts';
import { edits } from './edits/index.ts';
import { atServe, atServeEach, inNode, inPython } from './edits/judges.ts';
import { type Row, storedTable, storeTable, tableOf } from './edits/table.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';
import { tinyModel } from './tiny-model.ts';

const root = temporaryFolder('edits');
const checkpoint = path.join(root, 'checkpoint');
const rows: Row[] = [];
let python: Python;

beforeAll(async () => {
  python = await findPython();
  const env = { ...pythonEnvironment(), OMP_NUM_THREADS: '1' };
  const model = await tinyModel(path.join(root, 'model'));
  await attach({
    config: {
      policy: sentences(),
      segment: { min: 4, max: 48, align: 1 },
      carry: { size: 8, sinks: 4 },
      retrieval: { size: 8, recipe: 'anchors', layers: [1, 2] },
      heads: { long: [1] },
      bos: false,
    },
    modelDir: model,
    out: checkpoint,
  });
  const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
  execFileSync(process.execPath, [cli, 'export', checkpoint], { env, stdio: 'ignore' });
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

test('the unedited checkpoint is accepted by Node, Python and serve', async () => {
  expect(await inNode(checkpoint)).toEqual(['accepted', null]);
  expect(inPython(python, [checkpoint])).toEqual([['accepted', null]]);
  expect(await atServe(checkpoint)).toBe('serves');
});

test('Node, Python and serve accept and refuse the same edits, with the same codes', {
  timeout: 600_000,
}, async () => {
  expect(edits.length).toBeGreaterThanOrEqual(60);
  const dirs = edits.map((edit, at) => {
    const dir = path.join(root, String(at));
    cpSync(checkpoint, dir, { recursive: true });
    edit.edit(dir);
    return dir;
  });
  const inOther = inPython(python, dirs);
  const served = atServeEach(dirs);
  for (const [at, { file, name }] of edits.entries()) {
    const node = await inNode(dirs[at] as string);
    rows.push({
      file,
      name,
      node,
      python: inOther[at] as Row['python'],
      serve: served[at] as string,
    });
  }
  // Which part of a document fits no schema, the two languages say in words of their own.
  const told = (outcome: Row['node']) =>
    ['LS_CONTRACT_SCHEMA', 'LS_ENGINE_CORRUPT'].includes(outcome[0]) ? [outcome[0]] : outcome;
  const parted = rows.filter(
    ({ node, python, serve }) =>
      JSON.stringify(told(node)) !== JSON.stringify(told(python)) ||
      serve !== (node[0] === 'accepted' ? 'serves' : node[0]),
  );
  expect(parted).toEqual([]);
  // No row stands there twice, and both kinds are there.
  expect(new Set(rows.map(({ file, name }) => `${file} ${name}`)).size).toBe(rows.length);
  expect(rows.filter(({ serve }) => serve === 'serves').length).toBeGreaterThan(3);
});

test('lockstep serve as a process of its own gives the same outcome, once for each code', {
  timeout: 600_000,
}, async () => {
  const first = new Map(rows.map(({ serve }, at) => [serve, at] as const).toReversed());
  expect(first.size).toBeGreaterThan(10);
  for (const [outcome, at] of first)
    expect(await atServe(path.join(root, String(at)))).toBe(outcome);
});

test('docs/contract.md has the table of these outcomes', () => {
  const table = tableOf(rows);
  if (process.env['LOCKSTEP_UPDATE_DOCS'] === '1') storeTable(table);
  expect(storedTable()).toBe(table);
});
