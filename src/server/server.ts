// The HTTP server: an Express app in front of one engine, opened and closed as a whole.
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import type { SecureContextOptions } from 'node:tls';
import express, { type Express } from 'express';
import { type Logger, pino } from 'pino';
import type { Engine } from '../engines/engine.ts';
import type { ProbeOutcome } from '../engines/probe.ts';
import type { Runner } from '../engines/runner.ts';
import { steppedRunner } from '../engines/stepped.ts';
import type { PlannerSource } from '../planner/index.ts';
import type { TemplateLimits } from '../template/template.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Workshop } from './answers/answer.ts';
import { type Summary, summarize } from './answers/contract.ts';
import { type AuditLog, audit } from './audit.ts';
import { openBatches } from './batches/open.ts';
import { mountBatches } from './batches/routes.ts';
import type { BatchStore } from './batches/store.ts';
import { drain } from './drain.ts';
import { authenticate, operatorsOnly } from './keys/door.ts';
import type { KeyRing } from './keys/ring.ts';
import { WorkPool } from './large/pool.ts';
import { withPool } from './large/tokenizer.ts';
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
import { Gate } from './limits/gate.ts';
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
import { listen } from './listen.ts';
import { Metrics } from './metrics.ts';
import { chatTemplate } from './prompt/chat.ts';
import { bodyOf, bytesOf, type Reading } from './requests/body.ts';
import { chatCompletions, completions } from './routes/completions.ts';
import { healthRoutes } from './routes/health.ts';
import { limitOf, type Served } from './routes/job.ts';
import { openapi } from './routes/openapi.ts';
import { page } from './routes/page.ts';
import { tool } from './routes/plan.ts';
import { responses } from './routes/responses.ts';
import { openMetrics } from './timings.ts';
import type { Traces } from './traces.ts';

export interface ServerOptions extends Partial<Bounds> {
  /** Name of the model in requests and answers. */
  model?: string;
  /** Address to listen on. Default 127.0.0.1: this machine alone. */
  host?: string;
  /** Most tokens of a sequence, prompt and completion together. */
  maxTokens?: number;
  /** Most generations at once. Each holds a session of the engine. */
  maxSessions?: number;
  /** Most bytes of what a stepped engine remembers of prompts; 0 remembers nothing. */
  cacheBytes?: number;
  /** Most requests that wait for a place; the next one gets 429. */
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
  /** Most requests of batches at once (default: all places but one; 1 where the engine runs one step at a time). */
  batchPlaces?: number | undefined;
  /** How slowly a request may come. */
  connections?: Partial<ConnectionLimits>;
  /** Told of a chat template that cannot be read (LockstepError): its chats are refused. */
  warn?: (error: unknown) => void;
  /** Limits of the chat template's process, where others than `templateLimits` are wanted. */
  template?: Partial<TemplateLimits>;
  /** What became of the checkpoint's probe, for `/metrics`. */
  probe?: ProbeOutcome;
  log?: Logger;
}

export interface ServerParts {
  /** An engine, which is then stepped from here, or what runs by itself. */
  engine: Engine | Runner;
  tokenizer: Tokenizer;
  /** A checkpoint's contract and policy.js, as `readContract` believed them. */
  contract: PlannerSource;
  options?: ServerOptions;
}

export interface LockstepServer {
  /** Answers requests; for `http.createServer` too. */
  readonly app: RequestListener;
  /** What `/lockstep/contract` answers. */
  readonly summary: Summary;
  /** Open the port (0: any free one). Gives the address. */
  listen(port: number): Promise<{ host: string; port: number; url: string }>;
  /** Use another certificate from now on; open connections keep theirs. Nothing without TLS. */
  setTls(context: SecureContextOptions): void;
  /** End: say so to balancers, refuse newcomers, let running answers finish, free the engine. Idempotent. */
  close(): Promise<void>;
}

/** Unless told otherwise: how long running answers may take to finish. */
export const DRAIN_MS = 30_000;

/** Unless told otherwise: some 30 states of a model of 135 million parameters, with S = 512. */
export const CACHE_BYTES = 512 * 1024 * 1024;

const LOOPBACK = ['localhost', '127.0.0.1', '::1'];

/**
 * @throws LS_SERVE_DIGEST when engine and contract differ; LS_TEMPLATE_LIMIT
 */
export function createServer({
  engine,
  tokenizer,
  contract,
  options = {},
}: ServerParts): LockstepServer {
  const ours = contract.contract;
  const { cacheBytes = CACHE_BYTES } = options;
  const runner =
    'run' in engine ? engine : steppedRunner(engine, tokenizer, contract, { cacheBytes });
  const {
    model = 'lockstep',
    host = '127.0.0.1',
    maxTokens = 32_768,
    maxSessions = 8,
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

  const bounds = boundsOf(options, maxSessions);
  const gate = new Gate(maxSessions, maxQueue, bounds.maxPerCaller);
  const metrics = new Metrics(runner, gate, model, options.probe);
  const closing = new AbortController();
  let ending = false;
  const pool = new WorkPool(
    {
      dir: path.resolve(tokenizer.dir),
      tokenizer: tokenizer.sha256,
      source: { contract: ours, policySource: contract.policySource },
    },
    {
      threads: bounds.largeThreads,
      waiting: bounds.maxLarge,
      onEnd: (kind, seconds) => metrics.large.observe({ work: kind }, seconds),
    },
  );
  metrics.watchPool(pool);
  const shop: Workshop = {
    runner,
    tokenizer: withPool(tokenizer, pool),
    source: contract,
    gate,
    accounts: new Accounts(metrics.registry),
    metrics,
    log,
    closing: closing.signal,
    stream: { keepAliveMs, stallMs },
    patience: { queueMs: bounds.queueTimeoutMs, requestMs: bounds.requestTimeoutMs },
  };
  const template = chatTemplate(tokenizer, options.template);
  const reading: Reading = {
    pool,
    patience: shop.patience,
    facts: () => ({
      model,
      tokens: limitOf(served, shop),
      vocabulary: runner.info.vocabulary,
      messages: bounds.maxMessages,
    }),
  };
  const served: Served = { model, template, maxTokens, maxCompletion: bounds.maxCompletion };
  const summary = () =>
    summarize(
      model,
      ours,
      runner.info,
      {
        // Known only once the engine has told.
        tokens: Math.min(maxTokens, runner.maxTokens ?? maxTokens),
        sessions: maxSessions,
        bodyBytes: maxBodyBytes,
      },
      template !== null,
    );

  const since = Math.floor(Date.now() / 1000);
  const app = express();
  app.disable('x-powered-by');
  app.set('query parser', 'simple');
  app.set('etag', false);
  trustProxies(app, trustProxy);
  app.use(requestId(), observe(log, metrics), headers());
  app.use(knownHosts(LOOPBACK.includes(host) ? [...LOOPBACK, ...hostNames] : null));

  app.use(healthRoutes(runner, ours, model, () => ending));
  const { index, files } = page();
  app.get('/', index);
  app.use('/page', files);
  app.get('/openapi.json', openapi());

  if (traces !== null) app.use(traces.follow());
  if (auditLog !== null) app.use(audit(auditLog));
  app.use(authenticate(keys ?? apiKey));
  // Before the limit of requests: whoever watches the server must not lose sight of it.
  app.get('/metrics', operatorsOnly(), async (request, response) => {
    // vLLM's own figures come in Prometheus' older text, which cannot stand beside the newer one.
    if (runner.figures === undefined && request.get('accept')?.includes('openmetrics')) {
      const { type, text } = await openMetrics(metrics.registry);
      response.type(type).send(text);
      return;
    }
    const [own, engines] = await Promise.all([
      metrics.registry.metrics(),
      runner.figures?.().then(({ prometheus }) => prometheus),
    ]);
    response.type(metrics.registry.contentType).send(own + (engines ?? ''));
  });
  app.get('/lockstep/engine', operatorsOnly(), async (_request, response) => {
    const { name, precision } = runner.info;
    const summary = (await runner.figures?.())?.summary;
    const { memory } = runner;
    const prefix = memory && {
      bytes: memory.bytes,
      limit: memory.limit,
      states: memory.states,
      hits: memory.hits,
      misses: memory.misses,
      evictions: memory.evictions,
    };
    response.json({
      name,
      precision,
      sessions: runner.sessions,
      ...(prefix === undefined ? {} : { prefix }),
      ...summary,
    });
  });
  app.use(limitRate(requestsPerMinute));
  const card = { id: model, object: 'model', created: since, owned_by: 'lockstep' };
  app.get('/v1/models', (_request, response) => {
    response.json({ object: 'list', data: [card] });
  });
  app.get('/v1/models/:model', (request, response, next) => {
    if (request.params.model === model) response.json(card);
    else next();
  });
  app.get('/lockstep/contract', (_request, response) => {
    response.json(summary());
  });

  const bytes = [jsonOnly(), smallBody(maxBodyBytes), bytesOf(maxBodyBytes)];
  /** The routes that answer. */
  const mountAnswers = (to: Express, own: Workshop): void => {
    const reads = { ...reading, patience: own.patience };
    const body = (name: SchemaName) => [...bytes, bodyOf(name, reads)];
    to.post('/v1/completions', body('completion'), completions(served, own));
    to.post('/v1/chat/completions', body('chat'), chatCompletions(served, own));
    to.post('/v1/responses', body('response'), responses(served, own));
  };
  mountAnswers(app, shop);
  const batches = openBatches(options.batches ?? null, {
    places: options.batchPlaces,
    keys: keys ?? apiKey,
    audit: auditLog,
    ...{ mount: mountAnswers, shop, model, maxBodyBytes, traces },
  });
  mountBatches(app, batches, bytes);
  const kit = { tokenizer, source: contract };
  app.post('/tokenize', bytes, tool('tokenize', kit, reading));
  app.post('/detokenize', bytes, tool('detokenize', kit, reading));
  app.post('/lockstep/plan', bytes, tool('plan', kit, reading));
  const posts = [
    '/v1/completions',
    '/v1/chat/completions',
    '/v1/responses',
    '/tokenize',
    '/detokenize',
    '/lockstep/plan',
  ];
  app.all(posts, onlyMethods('POST'));
  app.all(
    [
      '/',
      '/metrics',
      '/v1/models',
      '/lockstep/contract',
      '/lockstep/engine',
      '/health',
      '/health/live',
      '/health/ready',
      '/openapi.json',
    ],
    onlyMethods('GET'),
  );
  app.use(notFound(), answerErrors(log));

  const limits = { ...connectionLimits, ...options.connections };
  const basics = { maxHeaderSize: HEADER_BYTES, connectionsCheckingInterval: checkEvery(limits) };
  const https = tls === null ? null : createHttpsServer({ ...basics, ...tls }, app);
  const http: Server = https ?? createHttpServer(basics, app);
  limitConnections(http, limits);
  closeOnlyIdle(http);
  let closed: Promise<void> | null = null;

  return {
    app,
    get summary() {
      return summary();
    },
    async listen(port) {
      // The first chat finds the renderer started. Completions need no template: one that cannot be read is
      // told, and its chats are refused.
      await template?.check().catch((cause: unknown) => {
        if (!closing.signal.aborted && !ending) options.warn?.(cause);
      });
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
    close() {
      closed ??= (async () => {
        ending = true;
        batches?.stop();
        const drained = drain(http, gate, closing, { preDrainMs, drainMs }, log);
        await Promise.all([drained, batches?.close(drainMs)]);
        template?.close();
        await traces?.close();
        await pool.close();
        await runner.close();
      })();
      return closed;
    },
  };
}
