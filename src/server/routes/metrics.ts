// `/metrics` and `/lockstep/engine`: what operators watch.
import type { Request, Response } from 'express';
import { Registry } from 'prom-client';
import { openMetrics } from '../exemplars.ts';
import type { Metrics } from '../metrics.ts';
import type { Models } from '../models/models.ts';
import { joinOpenMetrics, joinPrometheus } from '../models/prometheus-text.ts';
import { queryModel } from './query-model.ts';

/** Our own metrics, then those of engines that have some of their own; exemplars where OpenMetrics is asked for. */
export function metricsRoute({ registry }: Metrics, models: Models) {
  return async (request: Request, response: Response): Promise<void> => {
    const engines = models.running.filter(({ runner }) => runner.metrics !== undefined);
    const open = request.get('accept')?.includes('openmetrics') === true;
    const [own, ...told] = await Promise.all([
      open ? openMetrics(registry) : registry.metrics(),
      ...engines.map(async ({ name, runner }) => ({
        model: name,
        text: (await runner.metrics?.())?.prometheus ?? '',
      })),
    ]);
    response.type(open ? Registry.OPENMETRICS_CONTENT_TYPE : registry.contentType);
    response.send(own + (open ? `${joinOpenMetrics(told)}# EOF\n` : joinPrometheus(told)));
  };
}

export function engineRoute(models: Models) {
  return async (request: Request, response: Response): Promise<void> => {
    const { runner } = queryModel(request, models);
    const { name, precision } = runner.info;
    const summary = (await runner.metrics?.())?.summary;
    const { prefixCache } = runner;
    const prefix = prefixCache && {
      bytes: prefixCache.bytes,
      limit: prefixCache.limit,
      states: prefixCache.states,
      hits: prefixCache.hits,
      misses: prefixCache.misses,
      evictions: prefixCache.evictions,
    };
    response.json({
      name,
      precision,
      sessions: runner.sessions,
      ...(prefix === undefined ? {} : { prefix }),
      ...summary,
    });
  };
}
