// `/metrics` and `/lockstep/engine`: what operators watch.
import type { Request, Response } from 'express';
import { Registry } from 'prom-client';
import { openMetrics } from '../exemplars.ts';
import type { Metrics } from '../metrics.ts';
import { joinFigures, joinOpenMetrics } from '../models/figures.ts';
import type { Models } from '../models/models.ts';
import { asked } from './asked.ts';

/** Our own figures, then those of engines that have some of their own; exemplars where OpenMetrics is asked for. */
export function metricsRoute({ registry }: Metrics, models: Models) {
  return async (request: Request, response: Response): Promise<void> => {
    const engines = models.running.filter(({ runner }) => runner.figures !== undefined);
    const open = request.get('accept')?.includes('openmetrics') === true;
    const [own, ...told] = await Promise.all([
      open ? openMetrics(registry) : registry.metrics(),
      ...engines.map(async ({ name, runner }) => ({
        model: name,
        text: (await runner.figures?.())?.prometheus ?? '',
      })),
    ]);
    response.type(open ? Registry.OPENMETRICS_CONTENT_TYPE : registry.contentType);
    response.send(own + (open ? `${joinOpenMetrics(told)}# EOF\n` : joinFigures(told)));
  };
}

export function engineRoute(models: Models) {
  return async (request: Request, response: Response): Promise<void> => {
    const { runner } = asked(request, models);
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
  };
}
