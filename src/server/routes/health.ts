// Whether the server lives and may be sent requests.
import { type RequestHandler, Router } from 'express';
import { isTrained } from '../../contract/index.ts';
import type { Health } from '../../engines/runner.ts';
import { toHttpError } from '../errors.ts';
import type { ServedModel } from '../models/model.ts';
import type { Models } from '../models/models.ts';

/**
 * `/health/live`: the process answers. `/health/ready`: it takes requests for every model, and what they are.
 * `/health`: the same in the short form of vLLM and llama.cpp.
 *
 * @param ending whether the server is shutting down
 */
export function healthRoutes(models: Models, ending: () => boolean): RequestHandler {
  const healthOf = (model: ServedModel): Health =>
    ending() ? { ready: false, status: 'closing' } : model.health();
  /** Each model with its state; the first of them is one that is not ready, where there is one. */
  const all = () => {
    const list = models.all.map(({ model }) => ({ model, health: healthOf(model) }));
    const worst = list.find(({ health }) => !health.ready) ?? list[0];
    if (worst === undefined) throw new Error('a server without a model');
    return { list, worst };
  };
  const router = Router();
  router.get('/health/live', (_request, response) => {
    response.json({ status: 'live' });
  });
  router.get('/health', (_request, response) => {
    const { ready, status } = all().worst.health;
    response.status(ready ? 200 : 503).json({ status: ready ? 'ok' : status });
  });
  router.get('/health/ready', (_request, response) => {
    const { list, worst } = all();
    response.status(worst.health.ready ? 200 : 503).json({
      ...stateOf(worst.model, worst.health),
      models: list.map(({ model, health }) => stateOf(model, health)),
    });
  });
  return router;
}

function stateOf(
  { name, created, runner, context }: ServedModel,
  { status, error }: Health,
): object {
  const { contract } = context.source;
  return {
    status,
    ...(error === undefined ? {} : { error: toHttpError(error).body().error }),
    model: name,
    created,
    engine: runner.info.name,
    precision: runner.info.precision,
    digest: contract.digest,
    trained: isTrained(contract),
  };
}
