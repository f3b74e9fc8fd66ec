// `lockstep serve --engine vllm` as a child process, with the real vLLM, for a test file.
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { findPython, type Python, pythonEnvironment } from '../../src/bridge/index.ts';
import { vllmModules } from '../../src/engines/vllm/index.ts';
import { packageRoot } from '../../src/paths.ts';
import { commandLine, descendants } from '../processes.ts';
import { ServeProcesses, type Serving } from '../serve-processes.ts';

export type { Serving };

export const TEXT =
  'The rain fell in torrents. It was a dark and stormy night! And then? Then the wind came. ';

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
  const processes = new ServeProcesses();
  beforeAll(async () => {
    python = await findPython({ modules: vllmModules });
    folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-serve-vllm-'));
    dir = makeCheckpoint(python, folder);
  });
  afterAll(async () => {
    await processes.close();
    await rm(folder, { recursive: true, force: true });
  });
  return {
    get dir() {
      return dir;
    },
    get python() {
      return python;
    },
    start: (vllm = [], options = []) =>
      processes.start(
        dir,
        ...['--engine', 'vllm', '--model', 'tiny', '--max-tokens', '1024'],
        ...['--python', python.executable, ...options],
        ...['--', '--enforce-eager', '--max-num-seqs', '64', ...vllm],
      ),
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
  return descendants(pid)
    .map((one) => ({ pid: one, name: commandLine(one) }))
    .reverse();
}
