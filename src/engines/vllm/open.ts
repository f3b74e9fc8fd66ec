// Opens the vLLM engine: supervised children of this process, or ones that run already.
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  childEnvironment,
  findPython,
  type Python,
  privateFolder,
  requiredModules,
} from '../../bridge/index.ts';
import { readModel } from '../../contract/model.ts';
import { LockstepError } from '../../errors.ts';
import type { PlannerSource } from '../../planner/index.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { EngineInfo } from '../engine.ts';
import { checkFlags, checkPrecision, type NamedAdapter, vllmCommand } from './flags.ts';
import { PLUGIN_ENVIRONMENT } from './identity.ts';
import { defaultKvCacheSpace } from './kv-cache-space.ts';
import { Relay } from './relay.ts';
import { Replica } from './replica.ts';
import { Supervisor, type SupervisorOptions } from './supervisor.ts';
import { tracesProtocol } from './traces-protocol.ts';
import { checkVersion } from './version.ts';

/** Between two looks at a vLLM that is not ours. */
const WATCH_MS = 2_000;
/** An answer from which nothing comes for this long is given up: a long prompt may take minutes. */
const STALL_MS = 600_000;
/** Most bytes of a Unix socket's path on Linux and macOS, less the byte that ends it. */
const SOCKET_BYTES = 103;

export interface VllmParts {
  /** Checkpoint folder. */
  dir: string;
  source: PlannerSource;
  tokenizer: Tokenizer;
  /** The model's name in requests. */
  model: string;
  /** Adapters over it (`openAdapters`). */
  adapters?: readonly NamedAdapter[];
}

export interface SupervisedOptions
  extends Pick<SupervisorOptions, 'startMs' | 'graceMs' | 'pauseMs' | 'crashes' | 'stableMs'> {
  /** An interpreter from `findPython`, or what `--python` named. */
  python?: Python | string | undefined;
  /** vLLM processes (default 1). */
  replicas?: number;
  /** vLLM's own flags. */
  flags?: readonly string[];
  /** What it computes in: float32, bfloat16 (default: the checkpoint's own). */
  dtype?: string | undefined;
  /** Most tokens of a sequence (default: vLLM's own choice). */
  maxTokens?: number | null;
  env?: NodeJS.ProcessEnv;
  /** Instead of vLLM: arguments after the interpreter, given the Unix socket to listen on. */
  command?: (socket: string) => string[];
  /** false: without the checkpoint's probe. */
  probe?: boolean;
  /** A replica may serve: again after each restart. */
  onReady?: (replica: Replica) => void;
  onLine?: (line: string) => void;
  say?: (what: string) => void;
  stallMs?: number;
  /** Aborts the start; nothing is left of it then. */
  signal?: AbortSignal;
}

/** What an interpreter must have to run vLLM with the plugin. */
export const vllmModules: readonly string[] = [...requiredModules, 'vllm'];

/** A relay, and when it turned out that nothing can be served any more. */
export interface VllmEngine {
  relay: Relay;
  /** Settles with the reason when the last replica has been given up. Never settles for upstreams. */
  failed: Promise<LockstepError>;
  /** Guards of the supervised processes that run now. */
  pids(): number[];
}

/**
 * Start vLLM and wait until every engine process of every replica has reported the digest.
 *
 * @throws LS_VLLM_FLAG, LS_VLLM_PRECISION, LS_VLLM_VERSION, LS_VLLM_START, LS_VLLM_PLUGIN, LS_VLLM_STOCK, LS_VLLM_DIGEST, LS_VLLM_IDENTITY,
 *   LS_VLLM_SOCKET, LS_PYTHON_*, and the plugin's own errors by their codes; nothing is left running then
 */
export async function superviseVllm(
  parts: VllmParts,
  options: SupervisedOptions = {},
): Promise<VllmEngine> {
  const { flags = [], replicas = 1, env = childEnvironment() } = options;
  checkFlags(flags);
  const info = await vllmInfo(parts.dir, options.dtype);
  const python = await interpreter(options);
  if (options.command === undefined) await checkVersion(python, env);
  const key = randomBytes(24).toString('base64url');
  const childEnv = vllmEnvironment(env, key, options);
  const supervisors: Supervisor[] = [];
  const all: Replica[] = [];
  const stopAll = () => Promise.all(supervisors.map((one) => one.stop()));
  const closeAll = async () => {
    await stopAll();
    await Promise.all(all.map((replica) => replica.close()));
  };
  const stop = () => void stopAll();
  options.signal?.addEventListener('abort', stop, { once: true });
  try {
    for (let i = 0; i < replicas; i++) {
      const socket = newSocket();
      const replica = replicaOf(`unix:${socket}`, key, parts, options);
      all.push(replica);
      supervisors.push(
        new Supervisor({
          ...options,
          python,
          command: options.command?.(socket) ?? launch(socket, info.precision, parts, options),
          env: childEnv,
          socket,
          replica,
          onRestart: () => relay.router.forget(replica),
          onReady: () => options.onReady?.(replica),
        }),
      );
      options.signal?.throwIfAborted();
    }
    const relay = new Relay({
      ...parts,
      info,
      replicas: all,
      failed: () =>
        supervisors.every((one) => one.failed) ? (supervisors[0]?.failed ?? null) : null,
      status: () => supervisors.find((one) => one.failed === null)?.status ?? 'failed',
      close: closeAll,
    });
    await Promise.all(supervisors.map((one) => one.started));
    const failed = Promise.all(supervisors.map((one) => one.ended)).then(
      () =>
        supervisors.find((one) => one.failed)?.failed ??
        // Stopped on purpose: nobody waits for this any more.
        new Promise<LockstepError>(() => {}),
    );
    return { relay, failed, pids: () => supervisors.flatMap((one) => one.pid ?? []) };
  } catch (error) {
    await closeAll();
    options.signal?.throwIfAborted();
    throw error;
  } finally {
    // It aborts a start; from here on `close` decides when running answers have had their time.
    options.signal?.removeEventListener('abort', stop);
  }
}

/** @param key what every request must show */
function vllmEnvironment(
  env: NodeJS.ProcessEnv,
  key: string,
  { flags = [], replicas = 1, maxTokens = null, probe }: SupervisedOptions,
): NodeJS.ProcessEnv {
  return {
    ...env,
    ...PLUGIN_ENVIRONMENT,
    ...defaultKvCacheSpace(env, flags, replicas),
    ...tracesProtocol(env, flags),
    VLLM_API_KEY: key,
    // Routes that change a running engine; nobody needs them here.
    VLLM_SERVER_DEV_MODE: '0',
    ...(probe === false ? { LOCKSTEP_PROBE: '0' } : {}),
    // Segments need no scaling of positions: the limit is what was asked for (SEMANTICS 3).
    ...(maxTokens === null ? {} : { VLLM_ALLOW_LONG_MAX_MODEL_LEN: '1' }),
  };
}

/** The command of a vLLM that listens on a socket. */
function launch(
  socket: string,
  dtype: string,
  { dir, model, adapters = [] }: VllmParts,
  { maxTokens = null, flags = [] }: SupervisedOptions,
): string[] {
  return vllmCommand({
    dir: path.resolve(dir),
    model,
    adapters,
    at: socket,
    maxTokens,
    flags,
    dtype,
  });
}

/**
 * Use vLLMs that run already. They are asked every few seconds and serve only while every engine
 * process of theirs reports the digest; until one does, the relay is not ready and says why.
 *
 * @param key what they ask for as `Authorization: Bearer`; null: nothing
 */
export async function useVllm(
  parts: VllmParts,
  urls: readonly string[],
  options: {
    key?: string | null;
    stallMs?: number;
    watchMs?: number;
    onReady?: (replica: Replica) => void;
  } = {},
): Promise<VllmEngine> {
  const info = await infoOf(parts.dir);
  const all = urls.map((url) =>
    replicaOf(upstreamOrigin(url), options.key ?? null, parts, options),
  );
  const closing = new AbortController();
  const watching = all.map(async (replica) => {
    for (;;) {
      const was = replica.ready;
      await replica.check(closing.signal);
      if (!replica.ready && was) relay.router.forget(replica);
      if (replica.ready && !was) options.onReady?.(replica);
      const pause = sleep(options.watchMs ?? WATCH_MS, undefined, { signal: closing.signal });
      if (
        await pause.then(
          () => false,
          () => true,
        )
      )
        return;
    }
  });
  const relay = new Relay({
    ...parts,
    info,
    replicas: all,
    failed: () => null,
    status: () => 'upstream not ready',
    close: async () => {
      closing.abort();
      await Promise.all(watching);
      await Promise.all(all.map((replica) => replica.close()));
    },
  });
  return { relay, failed: new Promise(() => {}), pids: () => [] };
}

let sockets = 0;

/**
 * Where a vLLM of ours listens: in a folder that only this user may enter. Its port would answer much of its
 * interface (`/tokenize`, `/metrics`, `/invocations`) to everybody on this machine, past keys, queue and limits.
 *
 * @throws LS_VLLM_SOCKET where the path is longer than the system takes
 */
function newSocket(): string {
  sockets += 1;
  const socket = path.join(privateFolder(), `vllm-${sockets}.sock`);
  if (Buffer.byteLength(socket) <= SOCKET_BYTES) return socket;
  throw new LockstepError(
    'LS_VLLM_SOCKET',
    `expected a path of at most ${SOCKET_BYTES} bytes for vLLM's socket, got ${socket}`,
    { fix: 'Set TMPDIR to a folder with a shorter path.' },
  );
}

function replicaOf(
  url: string,
  key: string | null,
  { source, adapters = [] }: VllmParts,
  { stallMs = STALL_MS }: { stallMs?: number },
): Replica {
  const sums = new Map(adapters.map(({ name, sha256 }) => [name, sha256]));
  return new Replica({ url, key, digest: source.contract.digest, adapters: sums, stallMs });
}

function interpreter({ python, env }: SupervisedOptions): Promise<Python> | Python {
  if (typeof python === 'object') return python;
  return findPython({
    python,
    modules: vllmModules,
    ...(env === undefined ? {} : { env }),
  });
}

/**
 * What vLLM started here is: the checkpoint's shape, and what it computes in.
 *
 * @param asked the precision; by default the checkpoint's own
 * @throws LS_VLLM_PRECISION for one that was not compared with the trainer's operator
 */
export async function vllmInfo(dir: string, asked?: string): Promise<EngineInfo> {
  const info = await infoOf(dir, asked);
  checkPrecision(info.precision);
  return info;
}

async function infoOf(dir: string, asked?: string): Promise<EngineInfo> {
  const { config, layers, queryHeads, kvHeads, vocabulary } = await readModel(dir);
  const hidden = Number(config['hidden_size']);
  const headDim = Number(config['head_dim'] ?? hidden / queryHeads);
  const precision = asked ?? String(config['dtype'] ?? config['torch_dtype'] ?? 'float32');
  return { name: 'vllm', precision, vocabulary, layers, kvHeads, queryHeads, headDim };
}

/**
 * Scheme, host and port of a running vLLM.
 *
 * @throws LS_VLLM_UPSTREAM for anything but an http address without a path
 */
export function upstreamOrigin(text: string): string {
  const bad = (got: string) =>
    new LockstepError('LS_VLLM_UPSTREAM', `expected an address as http://HOST:PORT, got ${got}`, {
      fix: 'Give the address of vLLM: --upstream http://127.0.0.1:8000',
      field: 'upstream',
    });
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw bad(text);
  }
  if (!['http:', 'https:'].includes(url.protocol) || url.pathname !== '/' || url.search !== '') {
    throw bad(text);
  }
  if (url.username !== '' || url.password !== '') {
    throw bad('one with a name or password in it');
  }
  return url.origin;
}
