// `lockstep serve --engine vllm --adapter` with the real vLLM: adapters over one base, chosen by `model`.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { findPython, type Python, pythonEnvironment } from '../../src/bridge/index.ts';
import { vllmModules } from '../../src/engines/vllm/index.ts';
import { packageRoot } from '../../src/paths.ts';
import { ended } from '../processes.ts';
import { type Any, clientOf } from '../server-client.ts';

const MAKE = [
  'import sys, shutil, checkpoints; from pathlib import Path; home = Path(sys.argv[1])',
  'shutil.copyfile(checkpoints.ROOT / "LICENSE", home / "text.txt")',
  'model = checkpoints.write_model(home / "base", kv_heads=3)',
  'long = "[[1],[0,2],[0],[1,2]]"',
  'made = checkpoints.attach(home, model, policy="sentences", least=8, long=long, probe=True)',
  'made.rename(home / "start")',
  'law = {"rank": 4, "alpha": 8, "modules": ["q_proj", "o_proj", "down_proj"]}',
  'checkpoints.trained(home, "law", probe=True, **law)',
  'checkpoints.trained(home, "tales", rank=2, alpha=16, modules=["k_proj", "v_proj"])',
].join('\n');

let python: Python;
let home: string;
const started: ChildProcess[] = [];
beforeAll(async () => {
  python = await findPython({ modules: vllmModules });
  home = await mkdtemp(path.join(os.tmpdir(), 'lockstep-adapters-vllm-'));
  const extra = ['test/vllm', 'test/python'].map((one) => path.join(packageRoot, one));
  execFileSync(python.executable, ['-c', MAKE, home], {
    env: { ...pythonEnvironment(process.env, extra), OMP_NUM_THREADS: '1' },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
});
afterAll(async () => {
  for (const child of started) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGTERM');
    await ended(child.pid as number);
  }
  await rm(home, { recursive: true, force: true });
});

/** What it prints on stderr; settles when it serves or has ended. */
async function serve(...adapters: string[]) {
  const child = spawn(
    process.execPath,
    [
      ...[path.join(packageRoot, 'dist/cli/main.js'), 'serve', path.join(home, 'start')],
      ...['--engine', 'vllm', '--model', 'tiny', '--port', '0', '--max-tokens', '1024'],
      ...adapters.flatMap((one) => ['--adapter', one]),
      ...['--python', python.executable, '--', '--enforce-eager', '--max-num-seqs', '16'],
    ],
    {
      env: { ...process.env, OMP_NUM_THREADS: '1', VLLM_CPU_KVCACHE_SPACE: '1' },
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  started.push(child);
  let said = '';
  let serving: (url: string | null) => void;
  const ready = new Promise<string | null>((resolve) => {
    serving = resolve;
  });
  child.stderr?.on('data', (text) => {
    said += text;
    const url = /API (http:\S+)\/v1/.exec(said)?.[1];
    if (url !== undefined) serving(url);
  });
  void once(child, 'close').then(() => serving(null));
  return { child, url: await ready, said: () => said };
}

test('requests for two adapters and for the base at once', async () => {
  const folder = (name: string) => `${name}=${path.join(home, name, 'adapter')}`;
  const { url, said } = await serve(folder('law'), folder('tales'));
  if (url === null) throw new Error(said());
  expect(said()).toMatch(/; law: [^;]*passed/);
  expect(said()).toMatch(/; tales: (?![^;]*passed)/);
  const { client } = clientOf(url, Number(new URL(url).port));
  const { data } = await client.models.list();
  expect(data.map((card: Any) => [card.id, card.parent])).toEqual([
    ['tiny', undefined],
    ['law', 'tiny'],
    ['tales', 'tiny'],
  ]);
  const ask = async (model: string): Promise<string> => {
    const answer = await client.completions.create({
      ...{ model, prompt: 'The wind came. It was a dark night! ', max_tokens: 24 },
      ...{ temperature: 0, logprobs: 1 },
    });
    expect(answer.model).toBe(model);
    return JSON.stringify(answer.choices[0]?.logprobs?.tokens);
  };
  const names = ['law', 'tales', 'tiny', 'law', 'tales', 'tiny'];
  const together = await Promise.all(names.map(ask));
  expect(new Set(together).size).toBe(3);
  for (const [i, name] of names.entries()) expect(await ask(name)).toBe(together[i]);
});

test('an adapter of another base is refused before vLLM starts', async () => {
  const { child, url, said } = await serve(`law=${path.join(home, 'law')}`);
  expect(url).toBeNull();
  expect(child.exitCode).not.toBe(0);
  expect(said()).toContain('LS_ADAPTER_FILE');
  expect(said()).not.toContain('vLLM at');
});
