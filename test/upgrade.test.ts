// Checkpoints of version 1 as a user meets them: refused by every reader, renewed, and then read.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findPython, type Python, pythonEnvironment } from '../src/bridge/index.ts';
import { readContract } from '../src/checkpoint/index.ts';
import { type Contract, digestOf, sha256 } from '../src/contract/index.ts';
import { packageRoot } from '../src/paths.ts';
import { oldCheckpoint } from './old-checkpoint.ts';
import { temporaryFolder } from './tiny-checkpoint.ts';

const root = temporaryFolder('upgrade');
const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
let python: Python;
let made = 0;
beforeAll(async () => {
  python = await findPython();
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

function old(kind: 'own' | 'custom' = 'own'): string {
  made += 1;
  return oldCheckpoint(path.join(root, `old-${made}`), kind);
}

function lockstep(...args: string[]): { code: number | null; out: string; error: string } {
  const env = { ...process.env, NO_COLOR: '1' };
  const done = spawnSync(process.execPath, [cli, ...args], { encoding: 'utf8', env, cwd: root });
  return { code: done.status, out: done.stdout, error: done.stderr };
}

/** What `lockstep.contract.read` says of a folder: its digest, or the error. */
function inPython(dir: string): string {
  const code = `import sys
from lockstep.contract.reader import is_trained, read
from lockstep.errors import LockstepError
try:
    found = read(sys.argv[1])
    print(found.digest, is_trained(found.document))
except LockstepError as error:
    print(error.code, error.field, error.fix)`;
  const env = pythonEnvironment();
  return execFileSync(python.executable, ['-c', code, dir], { encoding: 'utf8', env }).trim();
}

function contractOf(dir: string): Contract {
  return JSON.parse(readFileSync(path.join(dir, 'lockstep.json'), 'utf8')) as Contract;
}

function edit(dir: string, change: (contract: Contract) => void): void {
  const contract = contractOf(dir);
  change(contract);
  contract.digest = digestOf(contract);
  writeFileSync(path.join(dir, 'lockstep.json'), JSON.stringify(contract));
}

const config = `import { defineConfig } from 'lockstep';
import { repeats } from './repeats.ts';
export default defineConfig({
  model: 'unused', out: 'unused', policy: repeats({ memory: MEMORY }),
  segment: { max: 32 }, carry: { size: 8 },
});
`;
function configFile(memory: number): string {
  const file = path.join(root, `memory-${memory}.config.ts`);
  copyFileSync(
    path.join(import.meta.dirname, 'policies/repeats.ts'),
    path.join(root, 'repeats.ts'),
  );
  writeFileSync(file, config.replace('MEMORY', String(memory)));
  return file;
}

describe('a checkpoint of version 1', () => {
  test('is recognised and refused by every reader, with the way out', async () => {
    const dir = old();
    await expect(readContract(dir)).rejects.toMatchObject({
      code: 'LS_CONTRACT_VERSION',
      field: 'lockstep',
      message: expect.stringMatching(/expected version 2 .*got 1/),
      fix: expect.stringContaining(`lockstep attach --upgrade ${dir}`),
    });
    expect(inPython(dir)).toMatch(/^LS_CONTRACT_VERSION lockstep .*attach --upgrade/);
    for (const args of [
      ['verify', dir, '--against', 'torch'],
      ['serve', dir, '--port', '0'],
      ['export', dir],
    ]) {
      const { code, error } = lockstep(...args);
      expect([code, error]).toEqual([1, expect.stringContaining('LS_CONTRACT_VERSION')]);
      expect(error).toContain('attach --upgrade');
      expect(error).not.toContain('    at ');
    }
  });

  test('that does not fit its own schema is told from one that does', async () => {
    const dir = old();
    edit(dir, (contract) => Object.assign(contract.carry, { heads: 'all' }));
    await expect(readContract(dir)).rejects.toMatchObject({ code: 'LS_CONTRACT_SCHEMA' });
    expect(inPython(dir)).toMatch(/^LS_CONTRACT_SCHEMA carry/);
  });

  test('of a version to come asks for another Lockstep', async () => {
    const dir = old();
    edit(dir, (contract) => Object.assign(contract, { lockstep: 3 }));
    await expect(readContract(dir)).rejects.toMatchObject({
      code: 'LS_CONTRACT_VERSION',
      fix: expect.stringContaining('later'),
    });
    expect(inPython(dir)).toMatch(/^LS_CONTRACT_VERSION lockstep .*later/);
  });
});

describe('lockstep attach --upgrade', () => {
  test('renews one with a policy of its own in its place', async () => {
    const dir = old();
    const before = contractOf(dir);
    const inode = statSync(path.join(dir, 'model.safetensors')).ino;
    mkdirSync(path.join(dir, 'onnx/fp32'), { recursive: true });
    writeFileSync(path.join(dir, 'onnx/fp32/meta.json'), '{}');
    const { code, out, error } = lockstep('attach', '--upgrade', dir);
    expect([code, error]).toEqual([0, '']);
    const { contract } = await readContract(dir);
    expect(out).toContain(before.digest);
    expect(out).toContain(`-> ${contract.digest}`);
    expect(out).toContain('onnx/fp32');
    expect(out).toContain('lockstep export');
    expect(contract).toMatchObject({
      lockstep: 2,
      trained: { steps: 3, tokens: 4096 },
      training: { truncation: 2 },
      tables: before.tables,
      segment: before.segment,
      tokenizer: { ends: [2] },
      model: { family: 'llama', tied: true },
    });
    expect(inPython(dir)).toBe(`${contract.digest} True`);
    expect(existsSync(path.join(dir, 'onnx'))).toBe(false);
    expect(statSync(path.join(dir, 'model.safetensors')).ino).toBe(inode);
    const card = readFileSync(path.join(dir, 'README.md'), 'utf8');
    expect(card).toContain(contract.digest);
    expect(card).not.toContain(before.digest);
    expect(readdirSync(root).filter((name) => /\.(tmp|old)$/.test(name))).toEqual([]);
    const again = lockstep('attach', '--upgrade', dir);
    expect([again.code, again.error]).toEqual([1, expect.stringContaining('LS_UPGRADE_CURRENT')]);
  });

  test('not into the checkpoint itself', () => {
    const dir = old();
    const { code, error } = lockstep('attach', '--upgrade', dir, '--out', path.join(dir, 'new'));
    expect([code, error]).toEqual([1, expect.stringContaining('LS_ATTACH_SAME')]);
    expect(existsSync(path.join(dir, 'new'))).toBe(false);
  });

  test('--out leaves the old one as it is; --json says the digests', async () => {
    const dir = old();
    const text = readFileSync(path.join(dir, 'lockstep.json'), 'utf8');
    const out = path.join(root, 'renewed');
    const run = lockstep('attach', '--upgrade', dir, '--out', out, '--json');
    const { digest, trained } = (await readContract(out)).contract;
    const before = (JSON.parse(text) as Contract).digest;
    expect(JSON.parse(run.out)).toEqual({
      out,
      before,
      digest,
      trained,
      exports: [],
      probe: expect.objectContaining({
        boundaries: expect.any(Number),
        path: path.join(out, 'probe.json'),
      }),
    });
    expect(trained).toMatchObject({ steps: 3, tokens: 4096 });
    expect(Object.keys(trained.weights.files)).toEqual(['model.safetensors']);
    expect(readFileSync(path.join(dir, 'lockstep.json'), 'utf8')).toBe(text);
    const twice = lockstep('attach', '--upgrade', dir, '--out', out);
    expect([twice.code, twice.error]).toEqual([1, expect.stringContaining('LS_ATTACH_EXISTS')]);
  });

  test('what a training wrote names the new digest, and its checksums hold', async () => {
    const dir = old();
    const { digest } = contractOf(dir);
    const state = 'training/state.json';
    mkdirSync(path.join(dir, 'training'));
    writeFileSync(path.join(dir, state), JSON.stringify({ version: 2, digest }));
    const names = ['config.json', 'lockstep.json', 'tokenizer.json', state];
    const sums = (): string =>
      names.map((name) => `${sha256(readFileSync(path.join(dir, name)))}  ${name}\n`).join('');
    writeFileSync(path.join(dir, 'training/SHA256SUMS'), sums());
    expect(lockstep('attach', '--upgrade', dir).code).toBe(0);
    const fresh = (await readContract(dir)).contract.digest;
    expect(JSON.parse(readFileSync(path.join(dir, state), 'utf8')).digest).toBe(fresh);
    expect(readFileSync(path.join(dir, 'training/SHA256SUMS'), 'utf8')).toBe(sums());
  });

  test('checksums that cannot be read are not left as they were', () => {
    const dir = old();
    mkdirSync(path.join(dir, 'training/SHA256SUMS'), { recursive: true });
    writeFileSync(path.join(dir, 'training/SHA256SUMS/file'), '');
    const { code, error } = lockstep('attach', '--upgrade', dir);
    expect([code, error]).toEqual([1, expect.stringMatching(/LS_ATTACH_WRITE.*got a folder/s)]);
    expect(contractOf(dir).lockstep).toBe(1);
  });

  test("a user's own policy comes from the config, and has to be the same", async () => {
    const dir = old('custom');
    const alone = lockstep('attach', '--upgrade', dir);
    expect(alone.code).toBe(1);
    expect(alone.error).toContain('LS_UPGRADE_POLICY');
    expect(alone.error).toContain('--config');
    const other = lockstep('attach', '--upgrade', dir, '--config', configFile(5));
    expect([other.code, other.error]).toEqual([1, expect.stringContaining('policy.params.memory')]);
    expect(contractOf(dir).lockstep).toBe(1);
    expect(lockstep('attach', '--upgrade', dir, '--config', configFile(3)).code).toBe(0);
    const { contract } = await readContract(dir);
    expect(contract.trained).toMatchObject({ steps: 0, tokens: 0 });
    expect(inPython(dir)).toBe(`${contract.digest} False`);
  });

  test.each<[string, (dir: string) => void, string]>([
    [
      'other tables',
      (dir) =>
        edit(dir, ({ tables }) => Object.assign((tables as object[])[1] ?? {}, { ids: [1] })),
      'LS_UPGRADE_DIFFERS',
    ],
    [
      'other cuts',
      (dir) => edit(dir, ({ golden }) => golden[1]?.boundaries.splice(2, 1)),
      'LS_UPGRADE_DIFFERS',
    ],
    [
      'a changed document',
      (dir) => {
        const contract = contractOf(dir);
        contract.carry.size = 9;
        writeFileSync(path.join(dir, 'lockstep.json'), JSON.stringify(contract));
      },
      'LS_CONTRACT_DIGEST',
    ],
    [
      'another tokenizer',
      (dir) => writeFileSync(path.join(dir, 'tokenizer.json'), ' ', { flag: 'a' }),
      'LS_CONTRACT_TOKENIZER',
    ],
    [
      'another model',
      (dir) => {
        const file = path.join(dir, 'config.json');
        const config = JSON.parse(readFileSync(file, 'utf8')) as object;
        writeFileSync(file, JSON.stringify({ ...config, vocab_size: 400 }));
      },
      'LS_CONTRACT_ARCHITECTURE',
    ],
  ])('%s: refused, and nothing changes', (_, change, code) => {
    const dir = old();
    change(dir);
    const text = readFileSync(path.join(dir, 'lockstep.json'), 'utf8');
    const run = lockstep('attach', '--upgrade', dir);
    expect([run.code, run.error]).toEqual([1, expect.stringContaining(code)]);
    expect(readFileSync(path.join(dir, 'lockstep.json'), 'utf8')).toBe(text);
    expect(readdirSync(root).filter((name) => /\.(tmp|old)$/.test(name))).toEqual([]);
  });

  test('options that do not go together are usage errors', () => {
    const dir = old();
    expect(lockstep('attach', '--upgrade', dir, '--force').code).toBe(2);
    expect(lockstep('attach', dir)).toMatchObject({
      code: 2,
      error: expect.stringContaining('expected the option --out <dir>, got none'),
    });
  });
});
