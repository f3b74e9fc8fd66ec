// What every request passes: an id, the log, the caller's key, the host it believes it talks to.
import { randomUUID } from 'node:crypto';
import type { ErrorRequestHandler, NextFunction, Request, RequestHandler, Response } from 'express';
import helmet, { strictTransportSecurity } from 'helmet';
import type { Logger } from 'pino';
import { HttpError, toHttpError, tooLarge } from '../errors.ts';
import { withExemplar } from '../exemplars.ts';
import { callerOf } from '../keys/caller.ts';
import type { Metrics } from '../metrics.ts';
import { usedBy } from '../stages.ts';
import { spread } from './spread.ts';

const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;

/** Give the request an id (the caller's own where it is harmless) and say it in the answer. */
export function requestId(): RequestHandler {
  return (request, response, next) => {
    const given = request.get('x-request-id');
    const id = given !== undefined && REQUEST_ID.test(given) ? given : randomUUID();
    response.locals['requestId'] = id;
    response.set('x-request-id', id);
    next();
  };
}

/**
 * Log and count each answer. Neither texts nor headers are logged: they may be secret.
 *
 * @param metrics null counts nothing: nobody waits for these answers
 */
export function observe(log: Logger, metrics: Metrics | null): RequestHandler {
  return (request, response, next) => {
    const since = performance.now();
    response.locals['since'] = since;
    response.once('close', () => {
      const seconds = (performance.now() - since) / 1000;
      // The route's pattern, never the raw path: unknown paths would make labels without end.
      const path = (request.route as { path?: string } | undefined)?.path;
      const route = path ?? (request.originalUrl.startsWith('/page/') ? '/page' : 'other');
      const status = response.writableFinished ? String(response.statusCode) : 'aborted';
      metrics?.requests.inc({ route, method: request.method, status });
      metrics?.requestSeconds.observe(
        withExemplar(String(response.locals['requestId']), { route }, seconds),
      );
      log.info(
        {
          requestId: response.locals['requestId'],
          caller: callerOf(response)?.name,
          key: callerOf(response)?.id,
          batch: response.locals['batch'],
          method: request.method,
          route,
          status,
          model: response.locals['model'],
          code: response.locals['code'],
          ms: Math.round(seconds * 1000),
          ...usedBy(response),
        },
        'request',
      );
    });
    next();
  };
}

/** How long browsers ask this host by TLS alone, seconds (RFC 6797): a year. */
const HSTS_SECONDS = 365 * 24 * 3600;

/**
 * Security headers; the page gets only what it brings along.
 *
 * @param tls whether this server itself speaks TLS; a proxy in front that does sets the header itself
 */
export function headers(tls: boolean): RequestHandler {
  // Other hosts below this name may still speak plain HTTP.
  const hsts = strictTransportSecurity({ maxAge: HSTS_SECONDS, includeSubDomains: false });
  const all = helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'self'"],
        imgSrc: ["'self'", 'data:'],
        connectSrc: ["'self'"],
        baseUri: ["'none'"],
        formAction: ["'none'"],
        frameAncestors: ["'none'"],
      },
    },
    strictTransportSecurity: false,
    crossOriginEmbedderPolicy: true,
    referrerPolicy: { policy: 'no-referrer' },
  });
  return (request, response, next) => {
    // For `localhost` it would cut off everything else on the machine that speaks plain HTTP.
    const wanted = tls && hostname(request.get('host') ?? '') !== 'localhost';
    all(request, response, wanted ? () => hsts(request, response, next) : next);
  };
}

/**
 * Refuse names that are not ours while bound to a loopback address: a web page that rebinds its own
 * name to 127.0.0.1 would otherwise reach the model with the visitor's browser.
 */
export function knownHosts(given: readonly string[] | null): RequestHandler {
  const names = given?.map((name) => name.replace(/^\[|\]$/g, '').toLowerCase()) ?? null;
  return (request, _response, next) => {
    const name = hostname(request.get('host') ?? '');
    if (names === null || names.includes(name)) return next();
    throw new HttpError(403, `Expected one of the hosts ${names.join(', ')}, got \`${name}\`.`, {
      code: 'unknown_host',
    });
  };
}

function hostname(host: string): string {
  return host
    .replace(/:\d+$/, '')
    .replace(/^\[|\]$/g, '')
    .toLowerCase();
}

/** Bodies are JSON and say so; a form on a foreign page cannot, and so cannot post here. */
export function jsonOnly(): RequestHandler {
  return (request, _response, next) => {
    if (request.is('application/json') !== false) return next();
    throw new HttpError(415, 'Expected `content-type: application/json`.', {
      code: 'unsupported_media_type',
    });
  };
}

/** Refuse a body by its announced length: what is too large is answered at once, not read to its end. */
export function smallBody(limit: number): RequestHandler {
  return (request, _response, next) => {
    if (Number(request.get('content-length') ?? 0) <= limit) return next();
    throw tooLarge(limit);
  };
}

/** Unknown paths, in OpenAI's words. */
export function notFound(): RequestHandler {
  return (request) => {
    throw new HttpError(404, `Unknown path ${request.method} ${request.path}.`, {
      code: 'not_found',
    });
  };
}

/** Known path, wrong verb. */
export function onlyMethods(...methods: string[]): RequestHandler {
  return (request, response) => {
    response.set('allow', methods.join(', '));
    throw new HttpError(
      405,
      `Expected ${methods.join(' or ')} ${request.path}, got ${request.method}.`,
      { code: 'method_not_allowed' },
    );
  };
}

/** Last in line: every failure becomes OpenAI's error body. */
export function answerErrors(log: Logger): ErrorRequestHandler {
  return (error: unknown, _request: Request, response: Response, _next: NextFunction) => {
    const known = toHttpError(error);
    response.locals['code'] = known.code;
    // A refusal for the moment is no failure: it comes with the time to try again.
    if (known.status >= 500 && known.retryAfter === undefined) {
      log.error({ requestId: response.locals['requestId'], err: error }, 'request failed');
    }
    if (response.headersSent) {
      response.destroy();
      return;
    }
    if (known.retryAfter !== undefined)
      response.set('retry-after', String(spread(known.retryAfter)));
    response.status(known.status).json(known.body());
  };
}
