// The Express app: what a request passes, from the first check to the route that answers.
import express, { type Express, type RequestHandler } from 'express';
import { audit } from './audit.ts';
import type { Batches } from './batches/batches.ts';
import { openBatches } from './batches/open.ts';
import { mountBatches } from './batches/routes.ts';
import { authenticate, operatorsOnly } from './keys/authenticate.ts';
import type { SchemaName } from './large/work.ts';
import { boundsOf } from './limits/bounds.ts';
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
import type { SharedParts } from './models/model.ts';
import type { Models } from './models/models.ts';
import { LOOPBACK, type Settings } from './options.ts';
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

export interface AppParts {
  settings: Settings;
  shared: SharedParts;
  models: Models;
  /** Whether the server is about to close. */
  ending(): boolean;
}

/** The app, and the batches whose lines pass its routes. */
export function openApp(parts: AppParts): { app: Express; batches: Batches | null } {
  const { settings, shared, models, ending } = parts;
  const { host, hostNames, stallMs, tls, log } = settings;
  const { metrics } = shared;
  const app = express();
  app.disable('x-powered-by');
  app.set('query parser', 'simple');
  app.set('etag', false);
  trustProxies(app, settings.trustProxy);
  app.use(requestId(), observe(log, metrics), watchReaders(stallMs), headers(tls !== null));
  app.use(knownHosts(LOOPBACK.includes(host) ? [...LOOPBACK, ...hostNames] : null));
  mountOpen(app, models, ending);
  mountAccess(app, parts);
  const batches = mountWork(app, parts);
  refuseOtherMethods(app);
  app.use(notFound(), answerErrors(log));
  return { app, batches };
}

/** Routes that need no key. */
function mountOpen(app: Express, models: Models, ending: () => boolean): void {
  app.use(healthRoutes(models, ending));
  const { index, files } = page();
  app.get('/', index);
  app.use('/page', files);
  app.get('/openapi.json', openapi());
}

/** Who asks, and how often; between the two, and behind them, routes that only read. */
function mountAccess(app: Express, { settings, shared, models }: AppParts): void {
  const { keys, apiKey, requestsPerMinute, audit: auditLog, traces } = settings;
  if (traces !== null) app.use(traces.follow());
  if (auditLog !== null) app.use(audit(auditLog));
  app.use(authenticate(keys ?? apiKey));
  // Before the limit of requests: monitoring must work under load, too.
  app.get('/metrics', operatorsOnly(), metricsRoute(shared.metrics, models));
  app.get('/lockstep/engine', operatorsOnly(), engineRoute(models));
  app.use(limitRate(requestsPerMinute, shared.accounts));
  app.get('/v1/models', modelList(models));
  app.get('/v1/models/:model', modelCard(models));
  app.get('/lockstep/contract', (request, response) => {
    response.json(queryModel(request, models).summary());
  });
}

/** Routes that read a body. */
function mountWork(app: Express, { settings, shared, models }: AppParts): Batches | null {
  const { maxBodyBytes } = settings;
  const bytes = [jsonOnly(), smallBody(maxBodyBytes), bytesOf(maxBodyBytes)];
  const reading = readingOf(settings, shared, models);
  const mount = (to: Express) => mountAnswers(to, models, bytes, reading);
  mount(app);
  const batches = openBatches(settings.batches ?? null, {
    slots: settings.batchSlots,
    keys: settings.keys ?? settings.apiKey,
    audit: settings.audit,
    mount,
    models,
    maxBodyBytes,
    traces: settings.traces,
    log: settings.log,
    registry: shared.metrics.registry,
  });
  mountBatches(app, batches, bytes);
  app.post('/tokenize', bytes, tool('tokenize', models, reading));
  app.post('/detokenize', bytes, tool('detokenize', models, reading));
  app.post('/lockstep/plan', bytes, tool('plan', models, reading));
  return batches;
}

/** The routes that answer. */
function mountAnswers(
  app: Express,
  models: Models,
  bytes: readonly RequestHandler[],
  reading: Reading,
): void {
  const body = (name: SchemaName) => [...bytes, bodyOf(name, reading)];
  app.post('/v1/completions', body('completion'), completions(models));
  app.post('/v1/chat/completions', body('chat'), chatCompletions(models));
  app.post('/v1/responses', body('response'), responses(models));
}

function readingOf(settings: Settings, { pool, timeouts }: SharedParts, models: Models): Reading {
  const { maxMessages } = boundsOf(settings, 1);
  return {
    pool,
    timeouts,
    counts: () => ({
      tokens: Math.max(...models.all.map(({ model }) => model.maxTokens)),
      messages: maxMessages,
    }),
  };
}

const POSTS = [
  '/v1/completions',
  '/v1/chat/completions',
  '/v1/responses',
  '/tokenize',
  '/detokenize',
  '/lockstep/plan',
];
const GETS = [
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

/** One route a path: a request is counted by its route's pattern. */
function refuseOtherMethods(app: Express): void {
  for (const path of POSTS) app.all(path, onlyMethods('POST'));
  for (const path of GETS) app.all(path, onlyMethods('GET'));
}
