// `/metrics` and `/lockstep/engine`: what operators watch.
import type { Request, Response } from 'express';
import type { Metrics } from '../metrics.ts';
import { joinFigures } from '../models/figures.ts';
import type { Models } from '../models/models.ts';
import { openMetrics } from '../timings.ts';
import { asked } from './asked.ts';

export function metricsRoute(metrics: Metrics, models: Models) {
  return async (request: Request, response: Response): Promise<void> => {
    const engines = models.running.filter(({ runner }) => runner.figures !== undefined);
    // vLLM's own figures come in Prometheus' older text, which cannot stand beside the newer one.
    if (engines.length === 0 && request.get('accept')?.includes('openmetrics')) {
      const { type, text } = await openMetrics(metrics.registry);
      response.type(type).send(text);
      return;
    }
    const [own, ...told] = await Promise.all([
      metrics.registry.metrics(),
      ...engines.map(async ({ name, runner }) => ({
        model: name,
        text: (await runner.figures?.())?.prometheus ?? '',
      })),
    ]);
    response.type(metrics.registry.contentType).send(own + joinFigures(told));
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
