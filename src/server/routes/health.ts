// Whether the server lives and may be sent requests.
import { type RequestHandler, Router } from 'express';
import { type Contract, isTrained } from '../../contract/index.ts';
import type { Health, Runner } from '../../engines/runner.ts';
import { toHttpError } from '../errors.ts';

/**
 * `/health/live`: the process answers. `/health/ready`: it takes requests, and what it is. `/health`: the same
 * in the short form of vLLM and llama.cpp.
 *
 * @param ending whether the server has been told to stop
 */
export function healthRoutes(
  runner: Runner,
  contract: Contract,
  model: string,
  ending: () => boolean,
): RequestHandler {
  const health = (): Health => (ending() ? { ready: false, status: 'closing' } : runner.health());
  const router = Router();
  router.get('/health/live', (_request, response) => {
    response.json({ status: 'live' });
  });
  router.get('/health', (_request, response) => {
    const { ready, status } = health();
    response.status(ready ? 200 : 503).json({ status: ready ? 'ok' : status });
  });
  router.get('/health/ready', (_request, response) => {
    const { ready, status, error } = health();
    response.status(ready ? 200 : 503).json({
      status,
      ...(error === undefined ? {} : { error: toHttpError(error).body().error }),
      model,
      engine: runner.info.name,
      precision: runner.info.precision,
      digest: contract.digest,
      trained: isTrained(contract),
    });
  });
  return router;
}
