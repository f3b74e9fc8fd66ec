// A fake vLLM (test/python/faults/fake_vllm.py) that is killed and started again on its port.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { findPython } from '../../src/bridge/index.ts';
import { packageRoot } from '../../src/paths.ts';

const program = path.join(packageRoot, 'test', 'python', 'faults', 'fake_vllm.py');

export class Fake {
  readonly #python: string;
  readonly #digest: string;
  #child: ChildProcess | null = null;
  #port = 0;

  private constructor(python: string, digest: string) {
    this.#python = python;
    this.#digest = digest;
  }

  static async start(digest: string): Promise<Fake> {
    const { executable } = await findPython();
    const fake = new Fake(executable, digest);
    await fake.#begin();
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async #begin(): Promise<void> {
    const args = ['-u', program, '--digest', this.#digest, '--port', String(this.#port)];
    const child = spawn(this.#python, [...args, '--delay', '0.004'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#child = child;
    for await (const line of createInterface({ input: child.stdout })) {
      const port = /^listening (\d+)/.exec(line)?.[1];
      if (port === undefined) continue;
      this.#port = Number(port);
      return;
    }
    throw new Error('expected the fake to listen, got its end');
  }

  kill(): void {
    this.#child?.kill('SIGKILL');
  }

  /** Kill it, with all that it was writing, and start it again. */
  async again(): Promise<void> {
    const child = this.#child as ChildProcess;
    const closed = once(child, 'close');
    this.kill();
    await closed;
    await this.#begin();
  }
}
