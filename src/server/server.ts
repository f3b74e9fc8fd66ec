// The HTTP server: an Express app in front of one or several models, opened and closed as a whole.
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { SecureContextOptions } from 'node:tls';
import express, { type Express } from 'express';
import { type Logger, pino } from 'pino';
import type { TemplateLimits } from '../template/template.ts';
import type { Summary } from './answers/contract.ts';
import { type AuditLog, audit } from './audit.ts';
import type { Batches } from './batches/batches.ts';
import { openBatches } from './batches/open.ts';
import { mountBatches } from './batches/routes.ts';
import type { BatchStore } from './batches/store.ts';
import { drain } from './drain.ts';
import { authenticate, operatorsOnly } from './keys/authenticate.ts';
import type { KeyRing } from './keys/ring.ts';
import { WorkPool } from './large/pool.ts';
import type { SchemaName } from './large/work.ts';
import { Accounts } from './limits/accounts.ts';
import { type Bounds, boundsOf } from './limits/bounds.ts';
import {
  type ConnectionLimits,
  checkEvery,
  connectionLimits,
  HEADER_BYTES,
  limitConnections,
} from './limits/connections.ts';
import { closeOnlyIdle } from './limits/idle.ts';
import {
  answerErrors,
  headers,
  jsonOnly,
  knownHosts,
  notFound,
  observe,
  onlyMethods,
  requestId,
  smallBody,
} from './limits/middleware.ts';
import { trustProxies } from './limits/proxies.ts';
import { limitRate } from './limits/rate.ts';
import { watchReaders } from './limits/stall.ts';
import { listen } from './listen.ts';
import { Metrics, type Reloaded } from './metrics.ts';
import { type ModelParts, ServedModel, type SharedParts } from './models/model.ts';
import { type Listed, Models } from './models/models.ts';
import { bodyOf, bytesOf, type Reading } from './requests/body.ts';
import { chatCompletions, completions } from './routes/completions.ts';
import { healthRoutes } from './routes/health.ts';
import { engineRoute, metricsRoute } from './routes/metrics.ts';
import { modelCard, modelList } from './routes/models.ts';
import { openapi } from './routes/openapi.ts';
import { page } from './routes/page.ts';
import { tool } from './routes/plan.ts';
import { queryModel } from './routes/query-model.ts';
import { responses } from './routes/responses.ts';
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

/** Unless told otherwise: how long running answers may take to finish. */
export const DRAIN_MS = 30_000;

/** Addresses that this machine alone reaches. */
export const LOOPBACK: readonly string[] = ['localhost', '127.0.0.1', '::1'];

/**
 * @throws LS_SERVE_DIGEST when engine and contract differ; LS_TEMPLATE_LIMIT
 */
export function createServer(parts: ServerParts): LockstepServer {
  const options: ServerOptions = parts.options ?? {};
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
    audit: auditLog = null,
    traces = null,
    log = pino({ level: 'silent' }),
  } = options;

  const bounds = boundsOf(options, 1);
  const metrics = new Metrics();
  const closing = new AbortController();
  let ending = false;
  let batches: Batches | null = null;
  const pool = new WorkPool({
    threads: bounds.largeThreads,
    waiting: bounds.maxLarge,
    onEnd: (kind, seconds) => metrics.large.observe({ work: kind }, seconds),
  });
  metrics.watchPool(pool);
  metrics.watchAudit(auditLog);
  const shared: SharedParts = {
    pool,
    accounts: new Accounts(metrics.registry),
    metrics,
    log,
    closing: closing.signal,
    stream: { keepAliveMs, stallMs },
    timeouts: { queueMs: bounds.queueTimeoutMs, requestMs: bounds.requestTimeoutMs },
    maxQueue,
    maxBodyBytes,
    bounds: options,
    template: options.template ?? {},
    onIdle: () => batches?.wake(),
  };
  const models = new Models();
  void models.serve(listOf(parts, shared));
  const reading: Reading = {
    pool,
    timeouts: shared.timeouts,
    counts: () => ({
      tokens: Math.max(...models.all.map(({ model }) => model.maxTokens)),
      messages: bounds.maxMessages,
    }),
  };
  /** Start the renderer before the first chat. A template that cannot be read is only a warning: completions need none. */
  const readTemplate = async ({ name, served }: ServedModel) => {
    await served.template?.check().catch((cause: unknown) => {
      if (!closing.signal.aborted && !ending) options.warn?.(cause, name);
    });
  };

  const app = express();
  app.disable('x-powered-by');
  app.set('query parser', 'simple');
  app.set('etag', false);
  trustProxies(app, trustProxy);
  app.use(requestId(), observe(log, metrics), watchReaders(stallMs), headers(tls !== null));
  app.use(knownHosts(LOOPBACK.includes(host) ? [...LOOPBACK, ...hostNames] : null));

  app.use(healthRoutes(models, () => ending));
  const { index, files } = page();
  app.get('/', index);
  app.use('/page', files);
  app.get('/openapi.json', openapi());

  if (traces !== null) app.use(traces.follow());
  if (auditLog !== null) app.use(audit(auditLog));
  app.use(authenticate(keys ?? apiKey));
  // Before the limit of requests: monitoring must work under load, too.
  app.get('/metrics', operatorsOnly(), metricsRoute(metrics, models));
  app.get('/lockstep/engine', operatorsOnly(), engineRoute(models));
  app.use(limitRate(requestsPerMinute, shared.accounts));
  app.get('/v1/models', modelList(models));
  app.get('/v1/models/:model', modelCard(models));
  app.get('/lockstep/contract', (request, response) => {
    response.json(queryModel(request, models).summary());
  });

  const bytes = [jsonOnly(), smallBody(maxBodyBytes), bytesOf(maxBodyBytes)];
  /** The routes that answer. */
  const mountAnswers = (to: Express): void => {
    const body = (name: SchemaName) => [...bytes, bodyOf(name, reading)];
    to.post('/v1/completions', body('completion'), completions(models));
    to.post('/v1/chat/completions', body('chat'), chatCompletions(models));
    to.post('/v1/responses', body('response'), responses(models));
  };
  mountAnswers(app);
  batches = openBatches(options.batches ?? null, {
    slots: options.batchSlots,
    keys: keys ?? apiKey,
    audit: auditLog,
    mount: mountAnswers,
    models,
    maxBodyBytes,
    traces,
    log,
    registry: metrics.registry,
  });
  mountBatches(app, batches, bytes);
  app.post('/tokenize', bytes, tool('tokenize', models, reading));
  app.post('/detokenize', bytes, tool('detokenize', models, reading));
  app.post('/lockstep/plan', bytes, tool('plan', models, reading));
  const posts = [
    '/v1/completions',
    '/v1/chat/completions',
    '/v1/responses',
    '/tokenize',
    '/detokenize',
    '/lockstep/plan',
  ];
  const gets = [
    '/',
    '/metrics',
    '/v1/models',
    '/lockstep/contract',
    '/lockstep/engine',
    '/health',
    '/health/live',
    '/health/ready',
    '/openapi.json',
  ];
  // One route a path: a request is counted by its route's pattern.
  for (const path of posts) app.all(path, onlyMethods('POST'));
  for (const path of gets) app.all(path, onlyMethods('GET'));
  app.use(notFound(), answerErrors(log));

  const limits = { ...connectionLimits, ...options.connections };
  const basics = { maxHeaderSize: HEADER_BYTES, connectionsCheckingInterval: checkEvery(limits) };
  const https = tls === null ? null : createHttpsServer({ ...basics, ...tls }, app);
  const http: Server = https ?? createHttpServer(basics, app);
  limitConnections(http, limits);
  closeOnlyIdle(http, limits);
  let closed: Promise<void> | null = null;

  return {
    app,
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
      await listen(http, port, host);
      batches?.start();
      const address = http.address() as AddressInfo;
      const name = address.family === 'IPv6' ? `[${address.address}]` : address.address;
      return {
        host: address.address,
        port: address.port,
        url: `${https === null ? 'http' : 'https'}://${name}:${address.port}`,
      };
    },
    setTls(context) {
      https?.setSecureContext(context);
    },
    reloaded: (what, ok) => metrics.reloaded(what, ok),
    close() {
      closed ??= (async () => {
        ending = true;
        batches?.stop();
        const drained = drain(http, models, closing, { preDrainMs, drainMs }, log);
        await Promise.all([drained, batches?.close(drainMs)]);
        await traces?.close();
        await pool.close();
        await models.close();
      })();
      return closed;
    },
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
