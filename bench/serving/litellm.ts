// LiteLLM's proxy in front of an upstream, in a virtual environment of its own.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '../../src/paths.ts';
import { freePort } from './free-port.ts';

/** The release that is measured. */
export const LITELLM = '1.108.7';

export interface Proxy {
  url: string;
  /** What a client must send. */
  headers: Record<string, string>;
  version: string;
  close(): Promise<void>;
}

/**
 * Install it where it is not yet, and start it.
 *
 * @param upstream address of what it stands in front of
 * @throws Error when it cannot be installed or does not start, with what it printed
 */
export async function startLitellm(upstream: string): Promise<Proxy> {
  const venv = path.join(packageRoot, '.lockstep', 'litellm');
  const bin = path.join(venv, 'bin');
  if (!existsSync(path.join(bin, 'litellm'))) {
    run('python3', ['-m', 'venv', venv]);
    run(path.join(bin, 'python'), [
      '-m',
      'pip',
      'install',
      '--quiet',
      `litellm[proxy]==${LITELLM}`,
    ]);
  }
  const folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-litellm-'));
  const config = path.join(folder, 'config.yaml');
  // Without retries on another key or model: what a client sees is what became of its own stream.
  await writeFile(
    config,
    `model_list:
  - model_name: toy
    litellm_params:
      model: text-completion-openai/toy
      api_base: ${upstream}/v1
      api_key: none
      max_retries: 0
litellm_settings:
  num_retries: 0
  telemetry: false
`,
  );
  const port = await freePort();
  // It does not start without one.
  const key = `sk-${randomBytes(24).toString('hex')}`;
  const child = spawn(
    path.join(bin, 'litellm'),
    ['--config', config, '--port', String(port), '--host', '127.0.0.1', '--num_workers', '1'],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        PATH: `${bin}:${process.env['PATH']}`,
        LITELLM_MASTER_KEY: key,
      },
    },
  );
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text) => {
      printed = (printed + text).slice(-4000);
    });
  }
  const url = `http://127.0.0.1:${port}`;
  await ready(url, child, () => printed);
  return {
    url,
    headers: { authorization: `Bearer ${key}` },
    version: LITELLM,
    async close() {
      const ended = once(child, 'close');
      child.kill('SIGKILL');
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function ready(url: string, child: ChildProcess, printed: () => string): Promise<void> {
  for (let i = 0; i < 600; i++) {
    if (child.exitCode !== null) break;
    const answer = await fetch(`${url}/health/liveliness`).catch(() => null);
    if (answer?.ok) return;
    await sleep(500);
  }
  child.kill('SIGKILL');
  throw new Error(`expected LiteLLM's proxy to start, got:\n${printed()}`);
}

function run(command: string, args: string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`expected ${command} to install LiteLLM, got:\n${stderr}`);
}
