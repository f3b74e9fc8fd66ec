// A vLLM to fail on demand (test/python/faults/fake_vllm.py), and a server in front of it.
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Agent, request } from 'undici';
import { findPython } from '../src/bridge/index.ts';
import { superviseVllm, useVllm, type VllmEngine } from '../src/engines/vllm/index.ts';
import type { SupervisedOptions } from '../src/engines/vllm/open.ts';
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

/** @param socketPath where it listens, instead of the port of `url` */
export function remote(url: string, socketPath?: string): Omit<Fake, 'child'> {
  // Each request has a connection of its own: a fake that was started again has another socket under the same path.
  const dispatcher = new Agent({ pipelining: 0, connect: socketPath ? { socketPath } : {} });
  const ask = async (where: string, body?: object) => {
    const method = body === undefined ? 'GET' : 'POST';
    const answer = await request(`${url}${where}`, {
      ...{ method, dispatcher },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return answer.body.json();
  };
  const tell = async (where: string, body: object) => void (await ask(where, body));
  return {
    url,
    fault: (fault) => tell('/fault', fault),
    become: (state) => tell('/become', state),
    seen: async () => (await ask('/seen')) as Seen,
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
    const engine = await superviseVllm(this.parts(), {
      python: await findPython(),
      command: (socket) => {
        fakes.push(remote('http://localhost', socket));
        return [program, '--digest', digest, '--uds', socket, ...args];
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
