// A vLLM to fail on demand (test/python/faults/fake_vllm.py), and a server in front of it.
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { findPython } from '../src/bridge/index.ts';
import { superviseVllm, useVllm, type VllmEngine } from '../src/engines/vllm/index.ts';
import type { SupervisedOptions } from '../src/engines/vllm/open.ts';
import { freePort } from '../src/free-port.ts';
import { createServer, type LockstepServer, type ServerOptions } from '../src/server/index.ts';
import { type Any, clientOf, type TestClient } from './server-client.ts';
import type { Toy } from './server-toy.ts';

const program = path.join(import.meta.dirname, 'python', 'faults', 'fake_vllm.py');

export interface Seen {
  paths: Record<string, number>;
  begun: number;
  running: number;
  completed: number;
  aborted: number;
  bodies: Any[];
  keys: string[];
  /** Each `traceparent` that came. */
  traces: string[];
  pid: number;
}

export interface Fake {
  url: string;
  child: ChildProcess;
  /** What the next completions come to: see `fail` in fake_vllm.py. */
  fault(fault: object): Promise<void>;
  /** Change its state: digest, architecture, plugin, delay, ... */
  become(state: object): Promise<void>;
  seen(): Promise<Seen>;
}

export function remote(url: string): Omit<Fake, 'child'> {
  const post = async (where: string, body: object) => {
    await fetch(`${url}${where}`, { method: 'POST', body: JSON.stringify(body) });
  };
  return {
    url,
    fault: (fault) => post('/fault', fault),
    become: (state) => post('/become', state),
    seen: async () => (await (await fetch(`${url}/seen`)).json()) as Seen,
  };
}

/** Everything that a test opened, closed at its end. */
export class Opened {
  readonly #closers: (() => unknown)[] = [];
  readonly #toy: Toy;

  constructor(toy: Toy) {
    this.#toy = toy;
  }

  /** A fake that runs by itself. */
  async fake(...args: string[]): Promise<Fake> {
    const { executable } = await findPython();
    const digest = this.#toy.files.contract.digest;
    const child = spawn(executable, ['-u', program, '--digest', digest, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#closers.push(() => child.kill('SIGKILL'));
    for await (const line of createInterface({ input: child.stdout as NodeJS.ReadableStream })) {
      const port = /^listening (\d+)/.exec(line)?.[1];
      if (port !== undefined) return { ...remote(`http://127.0.0.1:${port}`), child };
    }
    throw new Error('the fake ended before it listened');
  }

  /** A server in front of vLLMs that run already. */
  async relay(
    urls: readonly string[],
    options: ServerOptions = {},
    upstream: { key?: string; stallMs?: number; watchMs?: number } = {},
  ): Promise<TestClient & { server: LockstepServer; engine: VllmEngine }> {
    const engine = await useVllm(this.parts(), urls, { watchMs: 50, ...upstream });
    return { engine, ...(await this.serve(engine, options)) };
  }

  /** A server in front of fakes that it starts itself. */
  async supervise(
    args: readonly string[],
    options: SupervisedOptions = {},
    server: ServerOptions = {},
  ) {
    const fakes: Omit<Fake, 'child'>[] = [];
    const lines: string[] = [];
    const digest = this.#toy.files.contract.digest;
    const count = options.replicas ?? 1;
    // The server reaches them by their sockets, the tests by these ports.
    const ports = await Promise.all(Array.from({ length: count }, freePort));
    const engine = await superviseVllm(this.parts(), {
      python: await findPython(),
      command: (socket) => {
        const port = ports[fakes.length] as number;
        fakes.push(remote(`http://127.0.0.1:${port}`));
        return [program, '--digest', digest, '--uds', socket, '--port', String(port), ...args];
      },
      onLine: (line) => lines.push(line),
      pauseMs: 50,
      graceMs: 2_000,
      ...options,
    });
    return { engine, fakes, lines, ...(await this.serve(engine, server)) };
  }

  async serve(engine: VllmEngine, options: ServerOptions) {
    const server = createServer({
      engine: engine.relay,
      tokenizer: this.#toy.tokenizer,
      contract: this.#toy.files,
      options: { model: 'toy', drainMs: 500, maxSessions: 256, maxQueue: 1024, ...options },
    });
    this.#closers.push(() => server.close());
    const { url, port } = await server.listen(0);
    return { server, ...clientOf(url, port) };
  }

  parts() {
    const { dir, files, tokenizer } = this.#toy;
    return { dir, source: files, tokenizer, model: 'toy' };
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) await close();
  }
}

/** The last pid that a fake's output names by this word. */
export function pidIn(lines: readonly string[], word: string): number {
  const line = lines.findLast((one) => one.startsWith(`${word} `));
  return Number(line?.split(' ').at(-1));
}
