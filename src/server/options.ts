// What a server may be told, and what holds where it is told nothing.
import type { SecureContextOptions } from 'node:tls';
import { type Logger, pino } from 'pino';
import type { TemplateLimits } from '../template/template.ts';
import type { AuditLog } from './audit.ts';
import type { BatchStore } from './batches/store.ts';
import type { KeyRing } from './keys/ring.ts';
import type { Bounds } from './limits/bounds.ts';
import type { ConnectionLimits } from './limits/connections.ts';
import type { ModelParts } from './models/model.ts';
import type { Traces } from './traces.ts';

/** Options of a server with one model are that model's, too. */
export interface ServerOptions
  extends Partial<Bounds>,
    Pick<ModelParts, 'maxTokens' | 'maxSessions' | 'cacheBytes' | 'probe' | 'adapters'> {
  /** Name of the one model in requests and answers. */
  model?: string;
  /** Address to listen on. Default 127.0.0.1: this machine alone. */
  host?: string;
  /** Most requests that wait for a slot of one model; the next one gets 429. */
  maxQueue?: number;
  /** Most bytes of a request body. */
  maxBodyBytes?: number;
  /** Key that callers must show; null asks for none. */
  apiKey?: string | null;
  /** Keys of a keys file, instead of `apiKey`. */
  keys?: KeyRing | null;
  /** Requests a minute from one key or address; null sets no limit but those of the keys. */
  requestsPerMinute?: number | null;
  /** Host names that a loopback server answers to, beside localhost. */
  hostNames?: readonly string[];
  /** A comment goes into a silent stream this often. */
  keepAliveMs?: number;
  /** A reader that takes nothing for this long is given up. */
  stallMs?: number;
  /** How long `close` listens on while `/health/ready` says 503 already. */
  preDrainMs?: number;
  /** How long `close` then lets running generations finish. */
  drainMs?: number;
  /** Certificate and key, from `readTls`; null speaks plain HTTP. */
  tls?: SecureContextOptions | null;
  /** Addresses, networks (`10.0.0.0/8`) or `loopback` of proxies whose `X-Forwarded-For` is believed. */
  trustProxy?: readonly string[];
  /** Where each request is written down. */
  audit?: AuditLog | null;
  /** Where spans of each request go; null traces nothing. */
  traces?: Traces | null;
  /** Files and batches on the disk; null keeps none. The server closes it. */
  batches?: BatchStore | null;
  /** Most requests of batches at once (default: all slots but one; 1 where the engine runs one step at a time). */
  batchSlots?: number | undefined;
  /** How slowly a request may come. */
  connections?: Partial<ConnectionLimits>;
  /** Told of a model whose chat template cannot be read (LockstepError): its chats are refused. */
  warn?: (error: unknown, model: string) => void;
  /** Limits of the chat template's process, where others than `templateLimits` are wanted. */
  template?: Partial<TemplateLimits>;
  log?: Logger;
}

/** Unless told otherwise: how long running answers may take to finish. */
export const DRAIN_MS = 30_000;

/** Addresses that this machine alone reaches. */
export const LOOPBACK: readonly string[] = ['localhost', '127.0.0.1', '::1'];

export type Settings = ReturnType<typeof settingsOf>;

/** The options, with the defaults of the server's own; those of `Bounds` and of models stay as given. */
export function settingsOf(options: ServerOptions) {
  const {
    host = '127.0.0.1',
    maxQueue = 64,
    maxBodyBytes = 4 * 1024 * 1024,
    apiKey = null,
    keys = null,
    requestsPerMinute = LOOPBACK.includes(host) || keys !== null ? null : 600,
    hostNames = [],
    keepAliveMs = 15_000,
    stallMs = 60_000,
    preDrainMs = 0,
    drainMs = DRAIN_MS,
    tls = null,
    trustProxy = [],
    audit = null,
    traces = null,
    log = pino({ level: 'silent' }),
  } = options;
  return {
    ...options,
    host,
    maxQueue,
    maxBodyBytes,
    apiKey,
    keys,
    requestsPerMinute,
    hostNames,
    keepAliveMs,
    stallMs,
    preDrainMs,
    drainMs,
    tls,
    trustProxy,
    audit,
    traces,
    log,
  };
}
