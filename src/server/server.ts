// The HTTP server: an Express app in front of one engine, opened and closed as a whole.
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { type Logger, pino } from 'pino';
import { isTrained } from '../contract/index.ts';
import type { Engine } from '../engines/engine.ts';
import type { ProbeOutcome } from '../engines/probe.ts';
import type { Runner } from '../engines/runner.ts';
import { steppedRunner } from '../engines/stepped.ts';
import { LockstepError } from '../errors.ts';
import type { PlannerSource } from '../planner/index.ts';
import type { TemplateLimits } from '../template/template.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import type { Workshop } from './answers/answer.ts';
import { type Summary, summarize } from './answers/contract.ts';
import { toHttpError } from './errors.ts';
import { Gate } from './limits/gate.ts';
import {
  answerErrors,
  bearer,
  headers,
  jsonOnly,
  knownHosts,
  limitRate,
  notFound,
  observe,
  onlyMethods,
  requestId,
  smallBody,
} from './limits/middleware.ts';
import { Metrics } from './metrics.ts';
import { chatTemplate } from './prompt/chat.ts';
import { keepBody } from './requests/body-text.ts';
import { chatCompletions, completions, type Served } from './routes/completions.ts';
import { page } from './routes/page.ts';
import { detokenize, planText, tokenize } from './routes/plan.ts';
import { responses } from './routes/responses.ts';

export interface ServerOptions {
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
  /** Requests a minute from one address; null sets no limit. */
  requestsPerMinute?: number | null;
  /** Host names that a loopback server answers to, beside localhost. */
  hostNames?: readonly string[];
  /** A comment goes into a silent stream this often. */
  keepAliveMs?: number;
  /** A reader that takes nothing for this long is given up. */
  stallMs?: number;
  /** How long `close` lets running generations finish. */
  drainMs?: number;
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
  /** End: refuse newcomers, let running answers finish for a while, free the engine. Idempotent. */
  close(): Promise<void>;
}

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
    requestsPerMinute = LOOPBACK.includes(host) ? null : 600,
    hostNames = [],
    keepAliveMs = 15_000,
    stallMs = 60_000,
    drainMs = 10_000,
    log = pino({ level: 'silent' }),
  } = options;

  const gate = new Gate(maxSessions, maxQueue);
  const metrics = new Metrics(runner, gate, model, options.probe);
  const closing = new AbortController();
  let ending = false;
  const shop: Workshop = {
    runner,
    tokenizer,
    source: contract,
    gate,
    metrics,
    log,
    closing: closing.signal,
    stream: { keepAliveMs, stallMs },
  };
  const template = chatTemplate(tokenizer, options.template);
  const served: Served = { model, template, maxTokens };
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
  app.use(requestId(), observe(log, metrics), headers());
  app.use(knownHosts(LOOPBACK.includes(host) ? [...LOOPBACK, ...hostNames] : null));

  app.get('/health/live', (_request, response) => {
    response.json({ status: 'live' });
  });
  app.get('/health/ready', (_request, response) => {
    const health = ending ? { ready: false, status: 'closing' } : runner.health();
    response.status(health.ready ? 200 : 503).json({
      status: health.status,
      ...(health.error === undefined ? {} : { error: toHttpError(health.error).body().error }),
      model,
      engine: runner.info.name,
      precision: runner.info.precision,
      digest: ours.digest,
      trained: isTrained(ours),
    });
  });
  const { index, files } = page();
  app.get('/', index);
  app.use('/page', files);

  app.use(limitRate(requestsPerMinute), bearer(apiKey));
  app.get('/metrics', async (_request, response) => {
    const [own, engines] = await Promise.all([
      metrics.registry.metrics(),
      runner.figures?.().then(({ prometheus }) => prometheus),
    ]);
    response.type(metrics.registry.contentType).send(own + (engines ?? ''));
  });
  app.get('/lockstep/engine', async (_request, response) => {
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

  const body = [
    jsonOnly(),
    smallBody(maxBodyBytes),
    express.json({ limit: maxBodyBytes, verify: keepBody }),
  ];
  app.post('/v1/completions', body, completions(served, shop));
  app.post('/v1/chat/completions', body, chatCompletions(served, shop));
  app.post('/v1/responses', body, responses(served, shop));
  app.post('/tokenize', body, tokenize(served, shop));
  app.post('/detokenize', body, detokenize(served, shop));
  app.post('/lockstep/plan', body, planText(shop));
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
      '/health/live',
      '/health/ready',
    ],
    onlyMethods('GET'),
  );
  app.use(notFound(), answerErrors(log));

  const http = createHttpServer(app);
  // A slow sender of a body is cut off; a slow answer is not: prefill may take its time.
  http.requestTimeout = 60_000;
  http.headersTimeout = 20_000;
  // Proxies and clients keep idle connections for a minute. Closed before them (Node's 5 s), a request
  // that is sent just then meets a reset connection.
  http.keepAliveTimeout = 75_000;
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
      await open(http, port, host);
      const address = http.address() as AddressInfo;
      const name = address.family === 'IPv6' ? `[${address.address}]` : address.address;
      return { host: address.address, port: address.port, url: `http://${name}:${address.port}` };
    },
    close() {
      closed ??= (async () => {
        ending = true;
        gate.close();
        const ended = new Promise<void>((resolve) => {
          if (http.listening) http.close(() => resolve());
          else resolve();
        });
        // A connection that falls idle after its last answer would keep the server open otherwise.
        const sweep = setInterval(() => http.closeIdleConnections(), 100);
        const patience = setTimeout(() => closing.abort(), drainMs);
        const force = setTimeout(() => http.closeAllConnections(), drainMs + 5_000);
        await ended;
        clearInterval(sweep);
        clearTimeout(patience);
        clearTimeout(force);
        template?.close();
        await runner.close();
      })();
      return closed;
    },
  };
}

/**
 * Fail early, before a model is loaded, when the port cannot be had.
 *
 * @throws LS_SERVE_PORT, LS_SERVE_HOST
 */
export async function probePort(port: number, host: string): Promise<void> {
  const probe = createHttpServer();
  await open(probe, port, host);
  await new Promise((resolve) => probe.close(resolve));
}

function open(http: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    http.once('error', (cause: NodeJS.ErrnoException) => {
      reject(listenError(cause, port, host));
    });
    http.listen(port, host, () => resolve());
  });
}

function listenError(cause: NodeJS.ErrnoException, port: number, host: string): LockstepError {
  if (cause.code === 'EADDRINUSE') {
    return new LockstepError('LS_SERVE_PORT', `expected a free port, got ${port} in use`, {
      mend: `Choose another with --port, or 0 for any free one.`,
      field: 'port',
      cause,
    });
  }
  if (cause.code === 'EACCES') {
    return new LockstepError('LS_SERVE_PORT', `expected a port this user may open, got ${port}`, {
      mend: 'Choose one above 1023 with --port.',
      field: 'port',
      cause,
    });
  }
  return new LockstepError(
    'LS_SERVE_HOST',
    `expected an address of this machine, got ${host} (${cause.code})`,
    {
      mend: 'Give --host an address of this machine: 127.0.0.1, or 0.0.0.0 for all of them.',
      field: 'host',
      cause,
    },
  );
}
