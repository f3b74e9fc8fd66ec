// Versions of vLLM that were not tested: told by doctor, refused before anything slow is started.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findPython, type Python } from '../src/bridge/index.ts';
import { superviseVllm } from '../src/engines/vllm/index.ts';
import { installedVllm } from '../src/engines/vllm/version.ts';
import { packageRoot } from '../src/paths.ts';
import { makeToy, type Toy } from './server-toy.ts';

let folder: string;
let python: Python;
let toy: Toy;

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-versions-'));
  python = await findPython();
  toy = await makeToy();
}, 120_000);
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
  await rm(toy.dir, { recursive: true, force: true });
});

/** An environment in which a vLLM of this version is installed, as far as its metadata says. */
async function having(version: string, more: NodeJS.ProcessEnv = {}): Promise<NodeJS.ProcessEnv> {
  const site = path.join(folder, version);
  const info = path.join(site, `vllm-${version}.dist-info`);
  await mkdir(info, { recursive: true });
  await writeFile(
    path.join(info, 'METADATA'),
    `Metadata-Version: 2.1\nName: vllm\nVersion: ${version}\n`,
  );
  return { ...process.env, PYTHONPATH: site, ...more };
}

async function doctor(env: NodeJS.ProcessEnv) {
  const main = path.join(packageRoot, 'dist', 'cli', 'main.js');
  const { stdout } = await promisify(execFile)(process.execPath, [main, 'doctor', '--json'], {
    env: { ...env, PYTHON_BIN: python.executable },
  }).catch((error: { stdout: string }) => error);
  const told = JSON.parse(stdout) as {
    checks: { name: string; status: string; detail: string; fix?: string }[];
    versions: Record<string, string>;
  };
  return { ...told, vllm: told.checks.find((check) => check.name === 'vLLM') };
}

describe('a vLLM that was not tested', () => {
  test('doctor names it and the fix', async () => {
    const { vllm, versions } = await doctor(await having('0.33.0'));
    expect(vllm).toMatchObject({
      status: 'warning',
      detail: expect.stringMatching(/expected vLLM 0\.32\.x, got 0\.33\.0/),
      fix: expect.stringContaining('npm run setup -- --vllm'),
    });
    expect(versions['python:vllm']).toBe('0.33.0');
  }, 120_000);

  test('serve refuses it before it starts one', async () => {
    const parts = { dir: toy.dir, source: toy.files, tokenizer: toy.tokenizer, model: 'toy' };
    const printed: string[] = [];
    await expect(
      superviseVllm(parts, {
        python,
        env: await having('0.33.0'),
        onLine: (line) => void printed.push(line),
      }),
    ).rejects.toMatchObject({ code: 'LS_VLLM_VERSION' });
    expect(printed).toEqual([]);
  }, 60_000);
});

describe('a vLLM that was tested', () => {
  test.each([
    ['V1', undefined],
    ['V2', '1'],
  ] as const)(
    'its model runner %s is told',
    async (runner, asked) => {
      const env = await having('0.32.1', { VLLM_USE_V2_MODEL_RUNNER: asked });
      const told = await installedVllm(python, env);
      expect(told).toMatchObject({ name: 'vllm', version: '0.32.1', runner });
      expect(told.error).toBeUndefined();
      if (!told.plugin) return;
      const { vllm, versions } = await doctor(env);
      expect(vllm?.status).toBe(runner === 'V1' ? 'ok' : 'warning');
      expect(vllm?.detail).toContain(`Model Runner V1`);
      expect(versions['vllm:runner']).toBe(runner);
    },
    120_000,
  );
});
