// The batches of a server, with the routes that their lines pass: those of every request, on idle capacity.
import express, { type Express, type RequestHandler } from 'express';
import type { Workshop } from '../answers/answer.ts';
import { type AuditLog, audit } from '../audit.ts';
import { ANONYMOUS, type Caller, KEYHOLDER, setCaller } from '../keys/caller.ts';
import type { KeyRing } from '../keys/ring.ts';
import { answerErrors, notFound, observe, requestId } from '../limits/middleware.ts';
import { setBackground } from '../limits/ticket.ts';
import type { Traces } from '../traces.ts';
import { Batches } from './batches.ts';
import { Inside } from './inside.ts';
import type { LineOrigin } from './run-line.ts';
import type { BatchStore } from './store.ts';

export interface BatchesSetup {
  /** Most lines at once; undefined: all places but one, or 1 where the engine runs one step at a time. */
  places: number | undefined;
  /** Mounts the routes that answer. */
  mount(app: Express, shop: Workshop): void;
  shop: Workshop;
  /** The model that is served. */
  model: string;
  keys: KeyRing | string | null;
  maxBodyBytes: number;
  audit: AuditLog | null;
  traces: Traces | null;
}

/** A line has this beside its body. */
const LINE_BYTES = 8 * 1024;

/** @param store null: the server keeps no batches */
export function openBatches(store: BatchStore | null, setup: BatchesSetup): Batches | null {
  if (store === null) return null;
  const { shop, model, keys, maxBodyBytes } = setup;
  const { gate, runner, log } = shop;
  const usual = runner.together === 1 ? 1 : Math.max(1, gate.slots - 1);
  const app = express();
  app.disable('x-powered-by');
  app.set('etag', false);
  app.use(requestId(), observe(log, null));
  if (setup.traces !== null) app.use(setup.traces.follow());
  if (setup.audit !== null) app.use(audit(setup.audit));
  const inside: Inside<LineOrigin> = new Inside(app);
  app.use(from(inside));
  // The completion window is their only limit of time.
  setup.mount(app, { ...shop, patience: { queueMs: null, requestMs: null } });
  app.use(notFound(), answerErrors(log));
  return new Batches({
    store,
    capacity: {
      free: () => (gate.idle ? gate.slots - gate.active : 0),
      watch: (wake) => {
        gate.onIdle = wake;
      },
    },
    places: setup.places ?? usual,
    ready: () => runner.health().ready,
    inside,
    callerOf: callersOf(keys),
    rules: () => ({ models: [model], lineBytes: maxBodyBytes + LINE_BYTES }),
    log,
    audit: setup.audit,
    registry: shop.metrics.registry,
  });
}

/** Who sent the line, instead of a key that it shows. */
function from(inside: Inside<LineOrigin>): RequestHandler {
  return (request, response, next) => {
    const { caller, background, batch } = inside.whoOf(request.socket);
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
