// For the time of a test run: an interpreter that starts with PyTorch and transformers imported (Linux alone).
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { pythonEnvironment } from '../../src/bridge/index.ts';

/**
 * Start `server.py` with this interpreter, and write the one that asks it into `folder`.
 *
 * @returns the interpreter to name in PYTHON_BIN, and what ends the server
 */
export async function startWarmPython(
  python: string,
  folder: string,
): Promise<{ executable: string; stop: () => Promise<void> }> {
  const [executable, address] = [path.join(folder, 'python'), path.join(folder, 'warm.sock')];
  const source = readFileSync(path.join(import.meta.dirname, 'interpreter.py'), 'utf8');
  const body = source.replace('@REAL@', python).replace('@ADDRESS@', address);
  writeFileSync(executable, `#!${python} -IS\n${body}`);
  chmodSync(executable, 0o755);
  const server = path.join(import.meta.dirname, 'server.py');
  const child = spawn(python, [server, address, executable], {
    env: pythonEnvironment(),
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await ready(child);
  return {
    executable,
    async stop() {
      const closed = once(child, 'close');
      child.stdin?.end();
      await closed;
    },
  };
}

async function ready(child: ChildProcess): Promise<void> {
  for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
    if (line === 'ready') return;
  }
  throw new Error('expected the warm Python to print `ready`, got its end');
}
