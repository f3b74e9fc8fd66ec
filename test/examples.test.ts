// Every example runs as its README line says, on the real model and texts that set-up fetched.
import { execFile } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { makeContract } from '../src/checkpoint/index.ts';
import { loadConfig } from '../src/config/index.ts';
import { packageRoot } from '../src/paths.ts';
import { readmeCommands } from './helpers/readme.ts';

const run = promisify(execFile);
const example = (...parts: string[]): string => path.join(packageRoot, 'examples', ...parts);
const scratch = mkdtempSync(path.join(tmpdir(), 'lockstep-examples-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** A command of a README, in the root of the clone as a reader runs it. */
async function readmeRun(command: string | undefined): Promise<string> {
  const env = { ...process.env, npm_config_loglevel: 'error', npm_config_offline: 'true' };
  const { stdout } = await run('sh', ['-c', command ?? 'false'], {
    cwd: packageRoot,
    env,
    maxBuffer: 1 << 26,
  });
  return stdout;
}

describe('examples', () => {
  test('each has a README with commands that a clone can run', () => {
    const folders = readdirSync(example(), { withFileTypes: true }).filter((entry) =>
      entry.isDirectory(),
    );
    expect(folders.length).toBeGreaterThan(9);
    for (const { name } of folders) {
      const commands = readmeCommands(name);
      expect(commands.length, name).toBeGreaterThan(0);
      for (const command of commands) {
        expect(command, name).toMatch(/^((npx )?lockstep|node|npm|\.venv\/bin\/python) /);
      }
    }
  });

  test('the custom policy cuts at the ends of speeches, and its own test passes', async () => {
    const [plan, unit, ...others] = readmeCommands('custom-policy');
    expect(others).toEqual([]);
    const shown = await readmeRun(plan);
    expect(shown).toContain('speeches {"speeches":3}');
    const node = JSON.parse(await readmeRun(`${plan} --json`));
    const python = JSON.parse(await readmeRun(`${plan} --json --runtime python`));
    expect(node.boundaries.length).toBeGreaterThan(100);
    expect(python).toEqual(node);
    expect(await readmeRun(unit)).toMatch(/# pass 2\n# fail 0/);
  });

  test('its source stays within twenty lines of code', () => {
    const source = readFileSync(example('custom-policy', 'speeches.ts'), 'utf8');
    const code = source.split('\n').filter((line) => line.trim() && !line.trim().startsWith('//'));
    expect(code.length).toBeLessThanOrEqual(20);
  });

  test('measured heads stand in a JSON file that the config imports', async () => {
    const planned = JSON.parse(await readmeRun(readmeCommands('measured-heads')[0]));
    const file = example('measured-heads', 'heads.json');
    const { heads, retrieval } = JSON.parse(readFileSync(file, 'utf8'));
    expect(heads.long.flat()).toHaveLength(12);
    const config = await loadConfig(example('measured-heads', 'lockstep.config.ts'));
    const { contract } = await makeContract({ config, modelDir: config.model });
    expect(contract.heads).toEqual(heads);
    expect(planned.digest).toBe(contract.digest);
    expect(contract.retrieval).toEqual({ size: 256, recipe: 'anchors', ...retrieval });
  });

  test('Lockstep as a library plans, runs and counts', async () => {
    const stdout = await readmeRun(readmeCommands('library')[0]);
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
      // The README's commands; the first is the installation above.
      expect(readmeCommands('npm-training').slice(1)).toEqual(['npm run train', 'npm run verify']);
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
