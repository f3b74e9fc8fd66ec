// From the bytes of a request to its body: small ones are read here, large ones in a worker thread.
import type { Request, RequestHandler, Response } from 'express';
import express from 'express';
import { unsupportedEncoding } from '../errors.ts';
import { LARGE_BYTES, type WorkPool } from '../large/pool.ts';
import { type Counts, checkCounts, readJson, type SchemaName, schemas } from '../large/work.ts';
import { Deadline, type Timeouts } from '../limits/deadline.ts';
import { ticketOf, timeoutsOf } from '../limits/ticket.ts';
import { keepBody } from './body-text.ts';
import { markChecked } from './parse.ts';

/** What reading a body needs of the server. */
export interface Reading {
  pool: WorkPool;
  counts(): Counts;
  timeouts: Timeouts;
}

/** The body's bytes, at most `limit` of them; `request.body` is undefined where there are none. */
export function bytesOf(limit: number): RequestHandler {
  return express.raw({ limit, type: () => true });
}

/** Read the body by its schema; it is then what `parseBody` is given. */
export function bodyOf(name: SchemaName, reading: Reading): RequestHandler {
  return async (request, response, next) => {
    const bytes = bodyBytes(request);
    keepBody(request, bytes);
    if (bytes.length < LARGE_BYTES) {
      request.body = readJson(bytes);
      checkCounts(name, request.body, reading.counts());
    } else {
      const counts = reading.counts();
      request.body = await inPool(request, response, reading.timeouts, (signal, ticket) =>
        reading.pool.run({ kind: 'body', schema: name, body: bytes, counts }, signal, ticket),
      );
      markChecked(schemas[name], request.body as object);
    }
    next();
  };
}

/** Wait for a thread's work for as long as the client stays and its deadlines allow. */
export async function inPool<T>(
  request: Request,
  response: Response,
  timeouts: Timeouts,
  work: (signal: AbortSignal, ticket: ReturnType<typeof ticketOf>) => Promise<T>,
): Promise<T> {
  const gone = new AbortController();
  const leave = () => gone.abort();
  response.once('close', leave);
  if (response.closed) leave();
  const deadline = new Deadline(request, response, timeoutsOf(response, timeouts));
  try {
    const waiting = AbortSignal.any([gone.signal, deadline.total, deadline.queue()]);
    return await work(waiting, ticketOf(response));
  } finally {
    response.off('close', leave);
    deadline.clear();
  }
}

/** @throws HttpError 415 for a charset other than UTF-8 */
export function bodyBytes(request: Request): Buffer {
  const charset = /charset\s*=\s*"?([^\s;"]+)/i.exec(request.get('content-type') ?? '')?.[1];
  if (charset !== undefined && !/^utf-?8$/i.test(charset)) {
    throw unsupportedEncoding();
  }
  return Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
}
