// Which vLLM an interpreter has, told without importing it: that takes many seconds.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { type Python, pythonEnvironment } from '../../bridge/index.ts';
import { LockstepError } from '../../errors.ts';

export interface InstalledVllm {
  /** The distribution; null: none is installed. */
  name: string | null;
  version: string | null;
  /** Lockstep's plugin is registered there. */
  plugin: boolean;
  /** The model runner it would be started with. */
  runner: 'V1' | 'V2';
  /** Why this version is refused (python/lockstep/vllm/versions.py has the rule). */
  error?: { code: `LS_${string}`; message: string; fix?: string };
}

/** @throws what Node says of a child that fails */
export async function installedVllm(
  python: Python,
  env: NodeJS.ProcessEnv = process.env,
): Promise<InstalledVllm> {
  const { stdout } = await promisify(execFile)(
    python.executable,
    ['-m', 'lockstep.vllm.versions'],
    { env: pythonEnvironment(env), timeout: 300_000 },
  );
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as InstalledVllm;
}

/** @throws LS_VLLM_VERSION for a version that was not tested, before anything slow is started */
export async function checkVersion(python: Python, env?: NodeJS.ProcessEnv): Promise<void> {
  // One that cannot even say its version fails at the start, with its own words.
  const { error } = await installedVllm(python, env).catch(() => ({ error: undefined }));
  if (error === undefined) return;
  const { code, message, fix } = error;
  throw new LockstepError(code, message, fix === undefined ? {} : { fix });
}
