// The HTTP server: an Express app in front of one or several models, opened and closed as a whole.
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { SecureContextOptions } from 'node:tls';
import type { Express } from 'express';
import type { Summary } from './answers/contract.ts';
import { openApp } from './app.ts';
import type { Batches } from './batches/batches.ts';
import { drain } from './drain.ts';
import { WorkPool } from './large/pool.ts';
import { Accounts } from './limits/accounts.ts';
import { boundsOf } from './limits/bounds.ts';
import {
  checkEvery,
  connectionLimits,
  HEADER_BYTES,
  limitConnections,
} from './limits/connections.ts';
import { closeOnlyIdle } from './limits/idle.ts';
import { listen } from './listen.ts';
import { Metrics, type Reloaded } from './metrics.ts';
import { type ModelParts, ServedModel, type SharedParts } from './models/model.ts';
import { type Listed, Models } from './models/models.ts';
import { type ServerOptions, type Settings, settingsOf } from './options.ts';

/** One model, or several by their names. */
export type ServerParts =
  | (Pick<ModelParts, 'engine' | 'tokenizer' | 'contract'> & { options?: ServerOptions })
  | {
      models: readonly (ModelParts & { aliases?: readonly string[] })[];
      options?: Omit<
        ServerOptions,
        'model' | 'maxTokens' | 'maxSessions' | 'cacheBytes' | 'probe' | 'adapters'
      >;
    };

export interface LockstepServer {
  /** Answers requests; for `http.createServer` too. */
  readonly app: RequestListener;
  /** What `/lockstep/contract` answers for the first model. */
  readonly summary: Summary;
  /** Models that are served now, in the order in which they are listed. */
  readonly models: readonly Listed[];
  /**
   * Make another model ready, which `serve` may then list.
   *
   * @throws LS_SERVE_DIGEST when engine and contract differ; LS_TEMPLATE_LIMIT. The engine stays open then.
   */
  prepare(parts: ModelParts): Promise<ServedModel>;
  /**
   * Serve these models from now on, and no others: one that is left out finishes what it runs and is closed.
   *
   * @returns settles when all that were left out are closed
   */
  serve(models: readonly Listed[]): Promise<void>;
  /** Open the port (0: any free one). Gives the address. */
  listen(port: number): Promise<{ host: string; port: number; url: string }>;
  /** Use another certificate from now on; open connections keep theirs. Nothing without TLS. */
  setTls(context: SecureContextOptions): void;
  /** For the metrics: something was read again while it serves, or could not be. */
  reloaded(what: Reloaded, ok: boolean): void;
  /** End: say so to balancers, refuse newcomers, let running answers finish, free the engine. Idempotent. */
  close(): Promise<void>;
}

/**
 * @throws LS_SERVE_DIGEST when engine and contract differ; LS_TEMPLATE_LIMIT
 */
export function createServer(parts: ServerParts): LockstepServer {
  const settings = settingsOf(parts.options ?? {});
  const closing = new AbortController();
  let ending = false;
  let batches: Batches | null = null;
  const shared = sharedParts(settings, closing.signal, () => batches?.wake());
  const models = new Models();
  void models.serve(listOf(parts, shared));
  const opened = openApp({ settings, shared, models, ending: () => ending });
  batches = opened.batches;
  const { http, https } = httpServer(opened.app, settings);
  let closed: Promise<void> | null = null;

  /** Start the renderer before the first chat. A template that cannot be read is only a warning: completions need none. */
  const readTemplate = async ({ name, served }: ServedModel) => {
    await served.template?.check().catch((cause: unknown) => {
      if (!closing.signal.aborted && !ending) settings.warn?.(cause, name);
    });
  };

  return {
    app: opened.app,
    get summary() {
      return models.first.summary();
    },
    get models() {
      return models.all;
    },
    async prepare(one) {
      const model = new ServedModel(one, shared);
      await readTemplate(model);
      return model;
    },
    serve: (list) => models.serve(list),
    async listen(port) {
      await Promise.all(models.all.map(({ model }) => readTemplate(model)));
      await listen(http, port, settings.host);
      batches?.start();
      return placeOf(http.address() as AddressInfo, https === null ? 'http' : 'https');
    },
    setTls(context) {
      https?.setSecureContext(context);
    },
    reloaded: (what, ok) => shared.metrics.reloaded(what, ok),
    close() {
      closed ??= (async () => {
        ending = true;
        batches?.stop();
        const drained = drain(http, models, closing, settings, settings.log);
        await Promise.all([drained, batches?.close(settings.drainMs)]);
        await settings.traces?.close();
        await shared.pool.close();
        await models.close();
      })();
      return closed;
    },
  };
}

function sharedParts(settings: Settings, closing: AbortSignal, onIdle: () => void): SharedParts {
  const { maxQueue, maxBodyBytes, keepAliveMs, stallMs, log } = settings;
  const bounds = boundsOf(settings, 1);
  const metrics = new Metrics();
  const pool = new WorkPool({
    threads: bounds.largeThreads,
    waiting: bounds.maxLarge,
    onEnd: (kind, seconds) => metrics.large.observe({ work: kind }, seconds),
  });
  metrics.watchPool(pool);
  metrics.watchAudit(settings.audit);
  return {
    pool,
    accounts: new Accounts(metrics.registry),
    metrics,
    log,
    closing,
    stream: { keepAliveMs, stallMs },
    timeouts: { queueMs: bounds.queueTimeoutMs, requestMs: bounds.requestTimeoutMs },
    maxQueue,
    maxBodyBytes,
    bounds: settings,
    template: settings.template ?? {},
    onIdle,
  };
}

/** The models that a server begins with. */
function listOf(parts: ServerParts, shared: SharedParts): Listed[] {
  if ('models' in parts) {
    return parts.models.map(({ aliases = [], ...one }) => ({
      model: new ServedModel(one, shared),
      aliases,
    }));
  }
  const { options = {}, ...one } = parts;
  const { model: name = 'lockstep', maxTokens, maxSessions, cacheBytes, probe, adapters } = options;
  const given = { maxTokens, maxSessions, cacheBytes, probe, adapters };
  const own = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return [{ model: new ServedModel({ ...one, name, ...own }, shared), aliases: [] }];
}

/** Not listening yet. `https` is the same server where it speaks TLS. */
function httpServer(
  app: Express,
  { tls, connections }: Settings,
): { http: Server; https: HttpsServer | null } {
  const limits = { ...connectionLimits, ...connections };
  const basics = { maxHeaderSize: HEADER_BYTES, connectionsCheckingInterval: checkEvery(limits) };
  const https = tls === null ? null : createHttpsServer({ ...basics, ...tls }, app);
  const http = https ?? createHttpServer(basics, app);
  limitConnections(http, limits);
  closeOnlyIdle(http, limits);
  return { http, https };
}

/** Where a server listens. */
function placeOf(
  { address: host, port, family }: AddressInfo,
  scheme: 'http' | 'https',
): { host: string; port: number; url: string } {
  const name = family === 'IPv6' ? `[${host}]` : host;
  return { host, port, url: `${scheme}://${name}:${port}` };
}
