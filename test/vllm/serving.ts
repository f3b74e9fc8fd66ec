// `lockstep serve --engine vllm` as a child process, with the real vLLM, for a test file.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll } from 'vitest';
import { findPython, type Python, pythonEnvironment } from '../../src/bridge/index.ts';
import { vllmModules } from '../../src/engines/vllm/index.ts';
import { packageRoot } from '../../src/paths.ts';
import { ended } from '../processes.ts';
import { type Any, clientOf, type TestClient } from '../server-client.ts';

export const TEXT =
  'The rain fell in torrents. It was a dark and stormy night! And then? Then the wind came. ';

export interface Serving extends TestClient {
  child: ChildProcess;
  stderr(): string;
  /** What `/lockstep/engine` tells. */
  engine(): Promise<Any>;
}

export interface Servers {
  /** A tiny random Llama under `sentences`. */
  readonly dir: string;
  readonly python: Python;
  /** @param vllm flags behind `--`; `options` are of `lockstep serve` */
  start(vllm?: readonly string[], options?: readonly string[]): Promise<Serving>;
}

/** Every server started is ended at the end of the file. */
export function servers(): Servers {
  let folder: string;
  let dir: string;
  let python: Python;
  const started: ChildProcess[] = [];
  beforeAll(async () => {
    python = await findPython({ modules: vllmModules });
    folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-serve-vllm-'));
    dir = makeCheckpoint(python, folder);
  });
  afterAll(async () => {
    for (const child of started) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGTERM');
      await ended(child.pid as number);
    }
    await rm(folder, { recursive: true, force: true });
  });
  return {
    get dir() {
      return dir;
    },
    get python() {
      return python;
    },
    async start(vllm = [], options = []) {
      const child = spawn(
        process.execPath,
        [
          ...[path.join(packageRoot, 'dist/cli/main.js'), 'serve', dir, '--engine', 'vllm'],
          ...['--model', 'tiny', '--port', '0', '--json', '--max-tokens', '1024'],
          ...['--python', python.executable, ...options],
          ...['--', '--enforce-eager', '--max-num-seqs', '64', ...vllm],
        ],
        {
          env: { ...process.env, OMP_NUM_THREADS: '1', VLLM_CPU_KVCACHE_SPACE: '1' },
          stdio: ['ignore', 'pipe', 'pipe'],
        },
      );
      started.push(child);
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
    },
  };
}

function makeCheckpoint(python: Python, folder: string): string {
  const make = [
    'import sys; from pathlib import Path; import checkpoints',
    'folder = Path(sys.argv[1]); model = checkpoints.write_model(folder / "model")',
    `(model / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")`,
    'print(checkpoints.attach(folder, model, policy="sentences", least=8, most=64))',
  ].join('\n');
  const extra = ['test/vllm', 'test/python'].map((one) => path.join(packageRoot, one));
  return execFileSync(python.executable, ['-c', make, folder], {
    env: { ...pythonEnvironment(process.env, extra), OMP_NUM_THREADS: '1' },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  }).trim();
}

/** Processes below this one, the farthest first. */
export function below(pid: number): { pid: number; name: string }[] {
  const rows = execFileSync('ps', ['-eo', 'pid,ppid,args'], { encoding: 'utf8' })
    .split('\n')
    .flatMap((line) => {
      const found = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line);
      return found === null
        ? []
        : [{ pid: Number(found[1]), parent: Number(found[2]), name: found[3] as string }];
    });
  const tree = [{ pid, name: '' }];
  for (const { pid: parent } of tree) tree.push(...rows.filter((row) => row.parent === parent));
  return tree.slice(1).reverse();
}
