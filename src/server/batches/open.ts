// The batches of a server, with the routes that their lines pass: those of every request, on idle capacity.
import express, { type Express, type RequestHandler } from 'express';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { type AuditLog, audit } from '../audit.ts';
import { ANONYMOUS, type Caller, KEYHOLDER, setCaller } from '../keys/caller.ts';
import type { KeyRing } from '../keys/ring.ts';
import { answerErrors, notFound, observe, requestId } from '../limits/middleware.ts';
import { setBackground } from '../limits/ticket.ts';
import type { ServedModel } from '../models/model.ts';
import type { Models } from '../models/models.ts';
import type { Traces } from '../traces.ts';
import { Batches } from './batches.ts';
import { InProcessClient } from './in-process-client.ts';
import type { LineOrigin } from './run-line.ts';
import type { BatchStore } from './store.ts';

export interface BatchesSetup {
  /** Most lines at once; undefined: of each model all slots but one, or 1 where its engine runs one step at a time. */
  slots: number | undefined;
  /** Mounts the routes that answer. */
  mount(app: Express): void;
  models: Models;
  keys: KeyRing | string | null;
  maxBodyBytes: number;
  audit: AuditLog | null;
  traces: Traces | null;
  log: Logger;
  registry: Registry;
}

/** A line has this beside its body. */
const LINE_BYTES = 8 * 1024;

/** @param store null: the server keeps no batches */
export function openBatches(store: BatchStore | null, setup: BatchesSetup): Batches | null {
  if (store === null) return null;
  const { models, keys, maxBodyBytes, log, registry } = setup;
  const now = () => models.all.map(({ model }) => model);
  const app = express();
  app.disable('x-powered-by');
  app.set('etag', false);
  app.use(requestId(), observe(log, null));
  if (setup.traces !== null) app.use(setup.traces.follow());
  if (setup.audit !== null) app.use(audit(setup.audit));
  const client: InProcessClient<LineOrigin> = new InProcessClient(app);
  app.use(withOrigin(client));
  setup.mount(app);
  app.use(notFound(), answerErrors(log));
  return new Batches({
    store,
    slots: () => setup.slots ?? sum(now().map(usualSlots)),
    idle: () => sum(now().map(idleSlots)),
    client,
    callerOf: callersOf(keys),
    rules: () => ({ models: models.names, lineBytes: maxBodyBytes + LINE_BYTES }),
    log,
    audit: setup.audit,
    registry,
  });
}

/** Lines of one model at once, by default: a slot stays free for requests where steps run together. */
function usualSlots({ runner, context }: ServedModel): number {
  return runner.maxConcurrentRuns === 1 ? 1 : Math.max(1, context.queue.slots - 1);
}

function idleSlots(model: ServedModel): number {
  const { queue } = model.context;
  return queue.idle && model.health().ready ? queue.slots - queue.active : 0;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}

/** Who sent the line, instead of a key that it shows. */
function withOrigin(client: InProcessClient<LineOrigin>): RequestHandler {
  return (request, response, next) => {
    const { caller, background, batch } = client.originOf(request.socket);
    setCaller(response, caller);
    setBackground(response, background);
    response.locals['batch'] = batch;
    next();
  };
}

/** The caller that an owner is now. */
function callersOf(keys: KeyRing | string | null): (owner: string) => Caller | null {
  if (keys === null) return (owner) => (owner === ANONYMOUS.name ? ANONYMOUS : null);
  if (typeof keys === 'string') return (owner) => (owner === KEYHOLDER.name ? KEYHOLDER : null);
  return (owner) => keys.callerOf(owner);
}
