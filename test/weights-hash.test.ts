// Hashes of weights are computed once, for Node and Python together.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test, vi } from 'vitest';
import { findPython, pythonEnvironment } from '../src/bridge/index.ts';
import { cacheFile, hashOnce } from '../src/weights/hash.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

const root = temporaryFolder('weights-hash');
const file = path.join(root, 'file');
const right = createHash('sha256').update('weights').digest('hex');
const forged = '0'.repeat(64);
const all = { cachedFrom: 1 };

beforeEach(() => {
  vi.stubEnv('XDG_CACHE_HOME', path.join(root, 'cache'));
  rmSync(path.join(root, 'cache'), { recursive: true, force: true });
  writeFileSync(file, 'weights');
  utimesSync(file, 1e9, 1e9);
});
afterEach(() => vi.unstubAllEnvs());
afterAll(() => rmSync(root, { recursive: true, force: true }));

function entries(): Record<string, string> {
  return JSON.parse(readFileSync(cacheFile(), 'utf8')) as Record<string, string>;
}

/** Every remembered hash becomes `forged`: whoever returns it has read the cache. */
function forge(): void {
  const keys = Object.keys(entries());
  writeFileSync(cacheFile(), JSON.stringify(Object.fromEntries(keys.map((key) => [key, forged]))));
}

async function inPython(part: string): Promise<string> {
  const { executable } = await findPython();
  const code = `from pathlib import Path; from lockstep.weights.hash import hash_once
print(hash_once(Path(${JSON.stringify(file)}), ${part}, cached_from=1))`;
  return String(execFileSync(executable, ['-c', code], { env: pythonEnvironment() })).trim();
}

test('a file and a part of it are remembered, for Python too', async () => {
  expect(await hashOnce(file, all)).toBe(right);
  const part = createHash('sha256').update('igh').digest('hex');
  expect(await hashOnce(file, { ...all, range: [2, 5] })).toBe(part);
  expect(Object.values(entries()).sort()).toEqual([right, part].sort());
  forge();
  expect(await hashOnce(file, all)).toBe(forged);
  expect(await inPython('None')).toBe(forged);
  expect(await inPython('(2, 5)')).toBe(forged);
  expect(await hashOnce(file)).toBe(right); // small files are not looked up
  expect(readdirSync(path.dirname(cacheFile()))).toEqual(['weights.json']);
  expect(statSync(cacheFile()).mode & 0o077).toBe(0);
});

test('what Python remembered holds in Node', async () => {
  expect(await inPython('None')).toBe(right);
  forge();
  expect(await hashOnce(file, all)).toBe(forged);
});

test('a change is noticed', async () => {
  await hashOnce(file, all);
  forge();
  writeFileSync(file, 'Weights');
  expect(await hashOnce(file, all)).toBe(createHash('sha256').update('Weights').digest('hex'));
});

test('what changed just now is not remembered', async () => {
  writeFileSync(file, 'weights');
  await hashOnce(file, all);
  expect(existsSync(cacheFile())).toBe(false);
});

test.each([
  ['a folder that others may write', () => chmodSync(path.dirname(cacheFile()), 0o777)],
  ['a file that others may write', () => chmodSync(cacheFile(), 0o666)],
  ['a damaged file', () => writeFileSync(cacheFile(), '{"')],
  ['no hash in it', () => writeFileSync(cacheFile(), JSON.stringify({ a: 1 }))],
  [
    'no room for it',
    () => {
      rmSync(path.dirname(cacheFile()), { recursive: true });
      mkdirSync(path.join(root, 'cache'), { recursive: true });
      writeFileSync(path.dirname(cacheFile()), '');
    },
  ],
])('%s: the file is hashed', async (_, spoil) => {
  await hashOnce(file, all);
  forge();
  spoil();
  expect(await hashOnce(file, all)).toBe(right);
});
