// The interpreter that tests start must be as the real one in all that a program can see.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, describe, expect, test } from 'vitest';
import { pythonEnvironment } from '../../src/bridge/index.ts';
import { packageRoot } from '../../src/paths.ts';
import { python, realPython } from '../helpers/python.ts';
import { isRunning } from '../processes.ts';
import { until } from '../server-client.ts';

/** Not the system's own folder for temporary files: a file gc.py there would be a program's module. */
const folder = mkdtempSync(path.join(os.tmpdir(), 'lockstep-warm-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const pythonFolder = path.join(packageRoot, 'python');

interface Options {
  env?: NodeJS.ProcessEnv;
  input?: string;
  cwd?: string;
}

function run(executable: string, args: string[], { env = {}, input = '', cwd }: Options = {}) {
  const { status, signal, stdout, stderr } = spawnSync(executable, args, {
    env: { ...pythonEnvironment(), ...env },
    cwd,
    input,
    encoding: 'utf8',
  });
  return { status, signal, stdout, stderr };
}

const isWarm = (args: string[], options: Options = {}) =>
  run(python, args, options).stdout.trim() === 'True';
const importedAtOnce = 'import sys; print("torch" in sys.modules)';

describe.runIf(process.platform === 'linux')('as the real interpreter', () => {
  test.each<[name: string, args: string[], options: Options]>([
    ['arguments and path', ['-c', 'import sys; print(sys.argv, sys.path)', 'a', '-b'], {}],
    ['a module', ['-m', 'json.tool', '--compact'], { input: '{"a": [1, 2]}' }],
    ['unbuffered output', ['-u', '-c', 'import sys; print(sys.stdout.write_through)'], {}],
    ['an exit code', ['-c', 'raise SystemExit(7)'], {}],
    ['a message at the end', ['-c', 'raise SystemExit("no")'], {}],
    ['an exception', ['-c', 'def f():\n  1 / 0\nf()'], {}],
    ['a signal', ['-c', 'import os; os.kill(os.getpid(), 15)'], {}],
    ['an interrupt', ['-c', 'import os; os.kill(os.getpid(), 2)'], {}],
    ['an abort', ['-c', 'import os; os.abort()'], {}],
    ['what runs at the end', ['-c', 'import atexit; atexit.register(print, "end")'], {}],
    [
      'a thread that outlives the program',
      [
        '-c',
        'import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), print(1))).start()',
      ],
      {},
    ],
    ['stdin', ['-c', 'import sys; print(sys.stdin.read(), sys.stdin.encoding)'], { input: 'ä' }],
    [
      'variables',
      ['-c', 'import os; print(os.environ["A"], "HOME" in os.environ)'],
      { env: { A: '1' } },
    ],
    [
      'variables that libraries read when they are called',
      ['-c', 'import os; print(os.environ["TOKENIZERS_PARALLELISM"], os.environ["PYTHON"])'],
      { env: { TOKENIZERS_PARALLELISM: 'false', TORCHELASTIC_RUN_ID: '1', PYTHON: 'mine' } },
    ],
    ['a folder', ['-c', 'import os; print(os.getcwd())'], { cwd: folder }],
    [
      'threads',
      ['-c', 'import torch; print(torch.get_num_threads())'],
      { env: { OMP_NUM_THREADS: '1' } },
    ],
    ['no threads set', ['-c', 'import torch; print(torch.get_num_threads())'], {}],
    [
      'bytecode',
      ['-c', 'import sys; print(sys.dont_write_bytecode)'],
      { env: { PYTHONDONTWRITEBYTECODE: '1' } },
    ],
    ['its own main module', ['-c', 'import __main__; print(sorted(vars(__main__)))'], {}],
  ])('%s', (_, args, options) => {
    const env = { PYTHONDONTWRITEBYTECODE: '', ...options.env };
    const expected = run(realPython, args, { ...options, env });
    expect(run(python, args, { ...options, env })).toEqual(expected);
    expect(isWarm(['-c', importedAtOnce], { ...options, env })).toBe(true);
  });

  test('another Lockstep, and none', () => {
    const other = path.join(folder, 'other');
    mkdirSync(path.join(other, 'lockstep'), { recursive: true });
    writeFileSync(path.join(other, 'lockstep', '__init__.py'), 'loader = "another"');
    const program = 'import lockstep; print(lockstep.__file__, lockstep.loader)';
    const asked = (args: string[], PYTHONPATH: string) => {
      const got = run(python, args, { env: { PYTHONPATH } });
      expect(got).toEqual(run(realPython, args, { env: { PYTHONPATH } }));
      return got;
    };
    expect(asked(['-c', program], other).stdout).toContain('another');
    expect(asked(['-m', 'lockstep.training.loop'], pythonFolder).stderr).toBe('');
    expect(isWarm(['-c', importedAtOnce], { env: { PYTHONPATH: other } })).toBe(true);
  });

  test('limits, the mask of new files, and open files', () => {
    const program =
      'import os, resource; os.umask(m := os.umask(0)); print(m, resource.getrlimit(resource.RLIMIT_FSIZE), os.read(7, 9))';
    const asked = (executable: string) =>
      spawnSync(
        'sh',
        [
          '-c',
          `ulimit -f 20; umask 027; echo hello > ${folder}/in; exec "$0" -c "$1" 7< ${folder}/in`,
          executable,
          program,
        ],
        { encoding: 'utf8', env: pythonEnvironment() },
      ).stdout;
    expect(asked(python)).toBe(asked(realPython));
    expect(asked(python)).toContain('hello');
  });

  test.each(['random.random()', 'numpy.random.rand()', 'torch.rand(1)'])(
    'two forks draw different numbers: %s',
    (drawn) => {
      const args = ['-c', `import random, numpy, torch; print(${drawn})`];
      expect(run(python, args).stdout).not.toBe(run(python, args).stdout);
    },
  );
});

describe.runIf(process.platform === 'linux')('a fork lives as long as who asked for it', () => {
  async function sleeping(): Promise<[child: ChildProcess, fork: number]> {
    // Short sleeps: a SIGINT that Python receives just before one long sleep would wait for its end.
    const program = 'import os, time\nprint(os.getpid(), flush=True)\nwhile True: time.sleep(0.05)';
    const child = spawn(python, ['-c', program], { env: pythonEnvironment() });
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    const [line] = await once(lines, 'line');
    const fork = Number(line);
    expect(fork).not.toBe(child.pid);
    return [child, fork];
  }

  test.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGKILL'] as const)('%s', async (signal) => {
    const [child, fork] = await sleeping();
    child.kill(signal);
    const [, by] = await once(child, 'close');
    expect(by).toBe(signal);
    await until(() => !isRunning(fork), 10);
  });

  test('a fork that is killed', async () => {
    const [child, fork] = await sleeping();
    process.kill(fork, 'SIGKILL');
    const [, by] = await once(child, 'close');
    expect(by).toBe('SIGKILL');
  });
});

describe.runIf(process.platform === 'linux')('a new process, where a fork could differ', () => {
  test.each<[name: string, args: string[], options: Options]>([
    ['an option of the interpreter', ['-X', 'dev', '-c', importedAtOnce], {}],
    ['isolated', ['-I', '-c', importedAtOnce], {}],
    ['a variable that a library reads', ['-c', importedAtOnce], { env: { HF_HUB_OFFLINE: '0' } }],
    ['a hash seed', ['-c', importedAtOnce], { env: { PYTHONHASHSEED: '1' } }],
  ])('%s', (_, args, options) => {
    expect(isWarm(args, options)).toBe(false);
  });

  test('a module that hides a library', () => {
    const hiding = path.join(folder, 'hiding');
    mkdirSync(hiding, { recursive: true });
    writeFileSync(path.join(hiding, 'torch.py'), 'raise ImportError("hidden")');
    const seen = run(python, ['-c', 'import torch'], { env: { PYTHONPATH: hiding } });
    expect(seen.stderr).toContain('hidden');
    expect(run(python, ['-c', 'import torch'], { cwd: hiding }).stderr).toContain('hidden');
  });
});
