// Keeps one vLLM running: starts it, believes it once its digest is right, starts it again when it dies.
import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Python, type Service, type ServiceExit, startService } from '../../bridge/index.ts';
import { LockstepError } from '../../errors.ts';
import { startFailure } from './failure.ts';
import { notReady, type Replica } from './replica.ts';

export interface SupervisorOptions {
  python: Python;
  /** Arguments after the interpreter. */
  command: readonly string[];
  env: NodeJS.ProcessEnv;
  /** The Unix socket that it makes. */
  socket: string;
  replica: Replica;
  /** Everything it prints. */
  onLine?: (line: string) => void;
  /** What happens to it, in a sentence for people. */
  say?: (what: string) => void;
  /** It may serve: every time. */
  onReady?: () => void;
  /** It is up again and has nobody's segments. */
  onRestart?: () => void;
  /** How long a start may take (default 15 minutes). */
  startMs?: number;
  /** From the request to stop to SIGKILL (default 10 s). */
  graceMs?: number;
  /** First pause before a restart (default 500 ms); it doubles with each crash, up to 30 s. */
  pauseMs?: number;
  /** Crashes in a row after which it is given up (default 5). */
  crashes?: number;
  /** Having been ready this long ends a row of crashes (default 5 minutes). */
  stableMs?: number;
}

/** Findings that waiting does not fix. */
const FINAL = new Set(['LS_VLLM_PLUGIN', 'LS_VLLM_STOCK', 'LS_VLLM_DIGEST']);

/** Between two looks at a vLLM that starts. */
const POLL_MS = 250;
/** How long an engine process may take to report its digest once vLLM answers. */
const IDENTITY_MS = 60_000;

export class Supervisor {
  /** Settles when it is ready for the first time, or will never be. */
  readonly started: Promise<void>;
  readonly #options: SupervisorOptions;
  readonly #stopping = new AbortController();
  readonly #life: Promise<void>;
  #service: Service | null = null;
  #failed: LockstepError | null = null;
  #status = 'starting';

  constructor(options: SupervisorOptions) {
    this.#options = options;
    let settle = { resolve: () => {}, reject: (_: unknown) => {} };
    this.started = new Promise<void>((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.started.catch(() => {});
    this.#life = this.#live(settle.resolve).catch((error: unknown) => {
      if (!this.#stopping.signal.aborted) this.#failed = error as LockstepError;
      this.#status = this.#stopping.signal.aborted ? 'stopped' : 'failed';
      options.replica.markNotReady(
        this.#failed ?? notReady(options.replica.name, 'it was stopped'),
      );
      settle.reject(error);
    });
  }

  /** `starting`, `ready`, `restarting`, `stopped`, `failed`. */
  get status(): string {
    return this.#status;
  }

  /** Why it was given up; null while it was not. */
  get failed(): LockstepError | null {
    return this.#failed;
  }

  /** Settles when it has been given up or stopped. */
  get ended(): Promise<void> {
    return this.#life;
  }

  /** The guard's process id, while there is one. */
  get pid(): number | null {
    return this.#service?.pid ?? null;
  }

  /** End it and all that it started. Idempotent. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#service?.stop();
    await this.#life;
  }

  async #live(ready: () => void): Promise<void> {
    const { replica, say, pauseMs = 500, crashes = 5, stableMs = 300_000 } = this.#options;
    let row = 0;
    for (let everReady = false; ; ) {
      const exit = await this.#once(() => {
        if (everReady) this.#options.onRestart?.();
        everReady = true;
        ready();
      });
      this.#stopping.signal.throwIfAborted();
      const how = exit.signal ?? `exit code ${exit.code}`;
      replica.markNotReady(notReady(replica.name, `it ended (${how}) and is being restarted`));
      if (!everReady) throw startFailure(exit);
      row = exit.readyMs > stableMs ? 1 : row + 1;
      if (row > crashes) throw crashLoop(row, exit);
      this.#status = 'restarting';
      const pause = Math.min(30_000, pauseMs * 2 ** (row - 1));
      say?.(`vLLM at ${replica.name} ended (${how}); restarting in ${pause / 1000} s`);
      await sleep(pause, undefined, { signal: this.#stopping.signal });
    }
  }

  /** One life of the process. */
  async #once(ready: () => void): Promise<ServiceExit & { readyMs: number }> {
    const { python, command, env, socket, onLine, graceMs } = this.#options;
    // One that was killed leaves its file, which no other can bind.
    await rm(socket, { force: true });
    const service = await startService({
      python,
      command,
      env,
      lines: 400,
      ...(onLine === undefined ? {} : { onLine }),
      ...(graceMs === undefined ? {} : { graceMs }),
    });
    this.#service = service;
    const ended = new AbortController();
    const exited = service.exited.then((exit) => {
      ended.abort();
      return exit;
    });
    if (this.#stopping.signal.aborted) void service.stop();
    let readyAt = Number.POSITIVE_INFINITY;
    try {
      await this.#untilReady(AbortSignal.any([ended.signal, this.#stopping.signal]));
      readyAt = performance.now();
      this.#status = 'ready';
      this.#options.onReady?.();
      ready();
    } catch (error) {
      if (!ended.signal.aborted && !this.#stopping.signal.aborted) {
        await service.stop();
        throw error;
      }
    }
    const exit = await exited;
    return { ...exit, readyMs: Math.max(0, performance.now() - readyAt) };
  }

  async #untilReady(signal: AbortSignal): Promise<void> {
    const { replica, startMs = 900_000 } = this.#options;
    const deadline = performance.now() + startMs;
    let answering = Number.POSITIVE_INFINITY;
    for (;;) {
      signal.throwIfAborted();
      const now = performance.now();
      const up = await replica.get('/health', signal).then(
        ({ status }) => status === 200,
        () => false,
      );
      if (up) {
        answering = Math.min(answering, now);
        if (await replica.check(signal)) return;
        if (FINAL.has(replica.notReadyReason.code) || now - answering > IDENTITY_MS)
          throw replica.notReadyReason;
      }
      if (now > deadline) {
        throw new LockstepError(
          'LS_VLLM_START',
          `expected vLLM to be ready within ${startMs / 1000} s, got nothing`,
          { fix: 'Read its output: lockstep serve --log info' },
        );
      }
      await sleep(POLL_MS, undefined, { signal });
    }
  }
}

function crashLoop(times: number, exit: ServiceExit): LockstepError {
  const why = startFailure(exit);
  return new LockstepError(
    'LS_VLLM_CRASHED',
    `expected vLLM to keep running, got ${times} crashes in a row. ${why.message}`,
    { fix: why.fix ?? 'Read the last lines of its output.', cause: why },
  );
}
