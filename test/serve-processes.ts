// `lockstep serve` as child processes of a test file.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { packageRoot } from '../src/paths.ts';
import { ended } from './processes.ts';
import { type Any, clientOf, type TestClient } from './server-client.ts';

export interface Serving extends TestClient {
  child: ChildProcess;
  stderr(): string;
  /** What `/lockstep/engine` tells. */
  engine(): Promise<Any>;
}

/** Servers that are all ended by `close`. */
export class ServeProcesses {
  readonly #started: ChildProcess[] = [];
  readonly #program: string;
  readonly #environment: NodeJS.ProcessEnv;

  constructor(
    program = path.join(packageRoot, 'dist/cli/main.js'),
    environment: NodeJS.ProcessEnv = process.env,
  ) {
    this.#program = program;
    this.#environment = environment;
  }

  /** Start one and wait until it says that it is ready. */
  async start(dir: string, ...args: readonly string[]): Promise<Serving> {
    const child = spawn(
      process.execPath,
      [this.#program, 'serve', dir, '--port', '0', '--json', ...args],
      {
        env: { ...this.#environment, OMP_NUM_THREADS: '1', VLLM_CPU_KVCACHE_SPACE: '1' },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    this.#started.push(child);
    let stderr = '';
    child.stderr?.on('data', (text) => {
      stderr += text;
    });
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    const ready = once(lines, 'line').then(([line]) => JSON.parse(line) as { url: string });
    const died = once(child, 'close').then(() => {
      throw new Error(`it ended: ${stderr}`);
    });
    died.catch(() => {});
    const { url } = await Promise.race([ready, died]);
    const engine = async (): Promise<Any> => (await fetch(`${url}/lockstep/engine`)).json();
    return { child, stderr: () => stderr, engine, ...clientOf(url, Number(new URL(url).port)) };
  }

  async close(): Promise<void> {
    for (const child of this.#started.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGTERM');
      await ended(child.pid as number);
    }
  }
}

/** Arguments that serve an engine small enough for a test. */
export function engineArguments(engine: 'onnx' | 'torch' | 'vllm', vllm: readonly string[] = []) {
  const common = ['--engine', engine, '--model', 'tiny', '--max-tokens', '4096'];
  return engine === 'vllm'
    ? [...common, '--', '--enforce-eager', '--max-num-seqs', '8', ...vllm]
    : [...common, '--threads', '1'];
}
