// A `lockstep serve` process that is killed, stopped and started again, always on the same port.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageRoot } from '../../src/paths.ts';

/** A heap that leaks ends the server, however large the machine. */
const HEAP = '--max-old-space-size=512';
/** MALLOC_ARENA_MAX: as deploy/lockstep.service has it. */
const ENVIRONMENT = {
  OMP_NUM_THREADS: '1',
  VLLM_CPU_KVCACHE_SPACE: '1',
  MALLOC_ARENA_MAX: '1',
};
const main = path.join(packageRoot, 'dist', 'cli', 'main.js');

export class Front {
  readonly name: string;
  readonly url: string;
  /** Spans of time (ms of performance.now) in which it was going down, was down or came up, and by what. */
  readonly #down: { to: number; signal: 'SIGTERM' | 'SIGKILL' }[] = [];
  /** What it printed to stderr last. */
  printed = '';
  readonly #flags: string[];
  readonly #env: NodeJS.ProcessEnv;
  #child: ChildProcess | null = null;
  #since = 0;
  #ready = false;

  /**
   * @param flags of `lockstep serve`, the checkpoint first
   * @param env added to this process's own
   */
  constructor(name: string, port: number, flags: string[], env: NodeJS.ProcessEnv = {}) {
    this.name = name;
    this.url = `http://127.0.0.1:${port}`;
    this.#flags = ['--port', String(port), ...flags];
    this.#env = env;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Milliseconds since it was started last. */
  get age(): number {
    return performance.now() - this.#since;
  }

  async start(): Promise<void> {
    this.#since = performance.now();
    const child = spawn(process.execPath, [HEAP, main, 'serve', ...this.#flags], {
      env: { ...process.env, ...ENVIRONMENT, ...this.#env },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    child.stderr.on('data', (text) => {
      this.printed = (this.printed + text).slice(-20_000);
    });
    this.#child = child;
    const alive = () => child.exitCode === null && child.signalCode === null;
    for (let i = 0; i < 12_000 && alive(); i++) {
      const answer = await fetch(`${this.url}/health/ready`).catch(() => null);
      if (answer?.status === 200) {
        this.#ready = true;
        return;
      }
      await sleep(50);
    }
    throw new Error(`expected ${this.name} to become ready, got:\n${this.printed}`);
  }

  /** End it by a signal and start it again. @returns its exit code; null where the signal ended it */
  async restart(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    const span = { to: Number.POSITIVE_INFINITY, signal };
    this.#down.push(span);
    const code = await this.stop(signal);
    await this.start();
    span.to = performance.now();
    return code;
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    const child = this.#child as ChildProcess;
    this.#ready = false;
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    const closed = once(child, 'close');
    child.kill(signal);
    const [code] = await closed;
    return code as number | null;
  }

  /** Not while it starts: until Node runs our code, SIGHUP ends any process. */
  signal(name: NodeJS.Signals): void {
    if (this.#ready) this.#child?.kill(name);
  }

  /**
   * Whether it was going down, down or coming up at some time since `from`.
   *
   * @param signal only where this one was the reason
   */
  wasDown(from: number, signal?: 'SIGKILL'): boolean {
    return this.#down.some((one) => one.to >= from && (signal ?? one.signal) === one.signal);
  }

  /** Bytes of memory that it holds (RSS); null where the system does not tell. */
  memory(): number | null {
    const file = `/proc/${this.pid}/status`;
    if (!existsSync(file)) return null;
    const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(file, 'utf8'))?.[1];
    return kib === undefined ? null : Number(kib) * 1024;
  }
}
