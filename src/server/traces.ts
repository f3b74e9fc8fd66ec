// OpenTelemetry traces: a span for each request; below it the queue, the prompt and the answer, and their segments.
import {
  type Attributes,
  type Context,
  DiagLogLevel,
  diag,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import type { Request, RequestHandler, Response } from 'express';
import type { Logger } from 'pino';
import { traceParent } from '../engines/trace-context.ts';
import { callerOf } from './keys/caller.ts';
import type { StageSegments } from './segment-log.ts';
import { stagesOf, usedBy } from './stages.ts';

/** How long the end of the server waits for the last spans. */
const FLUSH_MS = 5_000;

export class Traces {
  readonly #provider: BasicTracerProvider;
  readonly #tracer: Tracer;
  readonly #propagator = new W3CTraceContextPropagator();
  readonly #failed: (message: string) => void;

  /**
   * @param endpoint where spans go, as `http://127.0.0.1:4318/v1/traces` (OTLP over HTTP)
   * @param log told when they cannot be sent; requests are served all the same
   */
  constructor(endpoint: string, log: Logger) {
    this.#failed = (message) => {
      log.error({ reason: message.slice(0, 300) }, 'traces cannot be sent');
    };
    const ignore = () => {};
    const logger = {
      error: this.#failed,
      warn: ignore,
      info: ignore,
      debug: ignore,
      verbose: ignore,
    };
    diag.setLogger(logger, { logLevel: DiagLogLevel.ERROR, suppressOverrideMessage: true });
    const exporter = new OTLPTraceExporter({ url: endpoint, timeoutMillis: FLUSH_MS });
    this.#provider = new BasicTracerProvider({
      resource: resourceFromAttributes({ 'service.name': 'lockstep' }),
      spanProcessors: [new BatchSpanProcessor(exporter)],
    });
    this.#tracer = this.#provider.getTracer('lockstep');
  }

  /** Follow each request from its head to the end of its answer, as a part of the caller's trace where it names one. */
  follow(): RequestHandler {
    return (request, response, next) => {
      const parent = this.#propagator.extract(ROOT_CONTEXT, request.headers, {
        get: (headers, name) => headers[name],
        keys: (headers) => Object.keys(headers),
      });
      const span = this.#tracer.startSpan(
        request.method,
        { kind: SpanKind.SERVER, startTime: clock(performance.now()) },
        parent,
      );
      const inside = trace.setSpan(parent, span);
      response.locals['traced'] = span.isRecording();
      response.once('close', () => this.#end(span, inside, request, response));
      const carrier: { traceparent?: string } = {};
      this.#propagator.inject(inside, carrier, {
        set: (into, name, value) => Object.assign(into, { [name]: value }),
      });
      traceParent.run(carrier.traceparent ?? '', next);
    };
  }

  async close(): Promise<void> {
    await this.#provider.shutdown().catch((error: unknown) => this.#failed(String(error)));
  }

  #end(span: Span, inside: Context, request: Request, response: Response): void {
    const now = performance.now();
    const route = (request.route as { path?: string } | undefined)?.path;
    span.updateName(route === undefined ? request.method : `${request.method} ${route}`);
    span.setAttributes(told(request, response, route));
    const failed = response.statusCode >= 500 || !response.writableFinished;
    if (failed) span.setStatus({ code: SpanStatusCode.ERROR });
    const { entered, admitted, first, segments } = stagesOf(response) ?? {};
    const stage = (name: string, from?: number, to?: number, ran?: StageSegments) => {
      if (from === undefined) return;
      const cached = name === 'prefill' ? segments?.cached : undefined;
      const attributes = ran === undefined ? {} : counted(ran, cached);
      const made = this.#tracer.startSpan(name, { startTime: clock(from), attributes }, inside);
      if (ran !== undefined) this.#segments(ran, trace.setSpan(inside, made));
      made.end(clock(to ?? now));
    };
    stage('queue', entered, admitted);
    stage('prefill', admitted, first, segments?.prefill);
    stage('decode', first, now, segments?.decode);
    span.end(clock(now));
  }

  #segments({ kept }: StageSegments, inside: Context): void {
    for (const { choice, index, first, end, retrieved, from, to } of kept) {
      const attributes = {
        'lockstep.choice': choice,
        'lockstep.segment.index': index,
        'lockstep.segment.first_position': first,
        'lockstep.segment.last_position': end - 1,
        'lockstep.segment.tokens': end - first,
        'lockstep.segment.retrieved_rows': retrieved,
      };
      const options = { startTime: clock(from), attributes };
      this.#tracer.startSpan('segment', options, inside).end(clock(to));
    }
  }
}

/** What a stage says of its segments. */
function counted({ kept, leftOut }: StageSegments, cached: number | undefined): Attributes {
  return {
    'lockstep.segments.closed': kept.length + leftOut,
    'lockstep.segments.left_out': leftOut,
    ...(cached === undefined ? {} : { 'lockstep.segments.remembered': cached }),
  };
}

/** Milliseconds since 1970. A bare `performance.now()` would get another offset in each span. */
function clock(now: number): number {
  return performance.timeOrigin + now;
}

/** Ids, counts and codes; never a text. */
function told(request: Request, response: Response, route: string | undefined): Attributes {
  const used = usedBy(response);
  const code = response.locals['code'] as string | null | undefined;
  const attributes: Attributes = {
    'http.request.method': request.method,
    'http.response.status_code': response.statusCode,
    'lockstep.request_id': String(response.locals['requestId']),
  };
  if (route !== undefined) attributes['http.route'] = route;
  if (code) attributes['error.type'] = code;
  const model = response.locals['model'] as string | undefined;
  if (model !== undefined) attributes['gen_ai.request.model'] = model;
  const caller = callerOf(response);
  if (caller !== null) attributes['lockstep.caller'] = caller.name;
  if (used !== undefined) {
    attributes['gen_ai.usage.input_tokens'] = used.prompt_tokens;
    attributes['gen_ai.usage.output_tokens'] = used.completion_tokens;
  }
  return attributes;
}
