// One vLLM as seen from here: its address, whether it may serve, and requests to it.
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'undici';
import { LockstepError } from '../../errors.ts';
import { traceParent } from '../trace-context.ts';
import { REFUSED_FIX } from './failure.ts';
import { type Identity, identify, type Upstream } from './identity.ts';

export interface ReplicaOptions {
  /** Origin, as `http://127.0.0.1:8000`; `unix:` and a path for a socket of this machine. */
  url: string;
  /** Key that vLLM asks for; null: none. */
  key: string | null;
  /** Digest that every engine process must report. */
  digest: string;
  /** SHA-256 of each adapter that it must have, by name. */
  adapters?: ReadonlyMap<string, string>;
  /** An answer from which nothing comes for this long is given up. */
  stallMs: number;
}

/** Codes of connections that failed before anything was answered. */
const REFUSED = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  // A socket's file is not there.
  'ENOENT',
  'EPIPE',
  'ENOTFOUND',
  'EHOSTUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_SOCKET',
  'UND_ERR_CLOSED',
  'UND_ERR_DESTROYED',
]);

export class Replica {
  readonly name: string;
  /** Requests that it runs now. */
  running = 0;
  readonly #options: ReplicaOptions;
  readonly #pool: Pool;
  #upstream: Upstream | null = null;
  #notReadyReason: LockstepError;
  #closed = false;

  constructor(options: ReplicaOptions) {
    this.name = options.url;
    this.#options = options;
    const socketPath = /^unix:(.+)$/.exec(options.url)?.[1];
    this.#pool = new Pool(socketPath === undefined ? options.url : 'http://localhost', {
      ...(socketPath === undefined ? {} : { socketPath }),
      connections: null,
      pipelining: 1,
      connectTimeout: 5_000,
      headersTimeout: options.stallMs,
      bodyTimeout: options.stallMs,
      // uvicorn drops idle connections after 5 s: be first, so that no request meets a closed one.
      keepAliveTimeout: 2_000,
      keepAliveMaxTimeout: 2_000,
    });
    this.#notReadyReason = notReady(options.url, 'it has not been asked yet');
  }

  get ready(): boolean {
    return this.#upstream !== null;
  }

  /** Why it is not ready. */
  get notReadyReason(): LockstepError {
    return this.#notReadyReason;
  }

  /** What it said it is; null while it is not ready. */
  get identity(): Identity | null {
    return this.#upstream?.identity ?? null;
  }

  /** Most tokens of a sequence; null: no limit is known. */
  get maxTokens(): number | null {
    return this.#upstream?.maxTokens ?? null;
  }

  /** Ask for its identity; ready only when every engine process reports the digest. */
  async check(signal?: AbortSignal): Promise<boolean> {
    try {
      const { digest, adapters } = this.#options;
      this.#upstream = await identify((path) => this.get(path, signal), digest, adapters);
    } catch (error) {
      this.markNotReady(error instanceof LockstepError ? error : unreachable(this.name, error));
    }
    return this.ready;
  }

  /** Not ready any more, until the next `check` finds otherwise. */
  markNotReady(why: LockstepError): void {
    this.#upstream = null;
    this.#notReadyReason = why;
  }

  /** A connection broke: believe nothing until it has answered again. */
  markSuspect(why: LockstepError): void {
    if (!this.ready) return;
    this.markNotReady(why);
    void (async () => {
      for (let pause = 100; !this.#closed && !(await this.check()); pause *= 2) {
        await sleep(Math.min(2_000, pause), undefined, { ref: false });
        if (this.ready) return;
      }
    })();
  }

  /** A short answer, read whole. */
  async get(path: string, signal?: AbortSignal): Promise<{ status: number; text: string }> {
    const timeout = AbortSignal.timeout(10_000);
    const { statusCode, body } = await this.#pool.request({
      path,
      method: 'GET',
      headers: this.#headers(),
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    });
    return { status: statusCode, text: await body.text() };
  }

  /**
   * Send a completion and return its event stream, which is read only as fast as the caller iterates.
   *
   * @throws LS_VLLM_UNREACHABLE nothing was answered: another replica may be asked;
   *   LS_VLLM_REFUSED vLLM's own 4xx; LS_VLLM_FAILED its 5xx; the signal's reason
   */
  async complete(body: object, signal: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    let response: Awaited<ReturnType<Pool['request']>>;
    try {
      response = await this.#pool.request({
        path: '/v1/completions',
        method: 'POST',
        headers: { ...this.#headers(), 'content-type': 'application/json' },
        body: JSON.stringify(body),
        signal,
      });
    } catch (error) {
      signal.throwIfAborted();
      throw this.#broken(error);
    }
    const { statusCode } = response;
    if (statusCode === 200) return this.#reading(response.body, signal);
    const text = await response.body.text().catch(() => '');
    throw refusal(statusCode, text);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#pool.destroy();
  }

  async *#reading(body: AsyncIterable<Uint8Array>, signal: AbortSignal) {
    try {
      yield* body;
    } catch (error) {
      signal.throwIfAborted();
      throw this.#broken(error, true);
    }
  }

  #headers(): Record<string, string> {
    const { key } = this.#options;
    const traceparent = traceParent.getStore();
    return {
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...(traceparent ? { traceparent } : {}),
    };
  }

  /** @param begun the answer had begun */
  #broken(error: unknown, begun = false): LockstepError {
    const code = (error as NodeJS.ErrnoException)?.code ?? '';
    if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') {
      return new LockstepError(
        'LS_VLLM_STALLED',
        `expected tokens from vLLM, got nothing for ${this.#options.stallMs / 1000} s`,
        { fix: 'It may be overloaded: lower --max-sessions, or look at its log.', cause: error },
      );
    }
    if (begun) {
      return new LockstepError(
        'LS_VLLM_DIED',
        `expected vLLM to finish its answer, got a broken connection (${code || String(error)}). The text so far is incomplete.`,
        { fix: 'Ask again; a supervised vLLM is being restarted.', cause: error },
      );
    }
    if (REFUSED.has(code)) return unreachable(this.name, error);
    return new LockstepError(
      'LS_VLLM_PROTOCOL',
      `expected an HTTP answer from vLLM, got ${code || String(error)}`,
      {
        fix: 'Check what is between this server and vLLM.',
        cause: error,
      },
    );
  }
}

export function notReady(url: string, why: string): LockstepError {
  return new LockstepError('LS_VLLM_NOT_READY', `expected a ready vLLM at ${url}, but ${why}`, {
    fix: 'Wait until /health/ready says 200.',
  });
}

function unreachable(url: string, cause: unknown): LockstepError {
  const code = (cause as NodeJS.ErrnoException)?.code ?? (cause as Error)?.message;
  return new LockstepError('LS_VLLM_UNREACHABLE', `expected vLLM at ${url}, got ${code}`, {
    fix: 'Start vLLM at that address, or correct --upstream. lockstep serve restarts a vLLM that it started itself.',
    cause,
  });
}

/** What vLLM says no with. What this server checks itself never gets this far. */
function refusal(status: number, text: string): LockstepError {
  let message = text.slice(0, 300);
  let param: string | undefined;
  try {
    const body = JSON.parse(text) as {
      error?: { message?: string; param?: string | null } | string;
    };
    if (typeof body.error === 'string') message = body.error;
    else if (body.error?.message !== undefined) {
      message = body.error.message.slice(0, 500);
      param = body.error.param ?? undefined;
    }
  } catch {
    // No JSON: the text itself says what there is to say.
  }
  if (status >= 400 && status < 500 && status !== 401 && status !== 403 && status !== 404) {
    return new LockstepError('LS_VLLM_REFUSED', `vLLM refuses the request: ${message}`, {
      fix: REFUSED_FIX,
      ...(param === undefined ? {} : { field: param }),
    });
  }
  return new LockstepError(
    'LS_VLLM_FAILED',
    `expected an answer from vLLM, got HTTP ${status}: ${message}`,
    { fix: 'Read the log of vLLM: lockstep serve --log info' },
  );
}
