// What a connection may do before a request is there: slow or long headers, slow bodies, broken HTTP.
import type { Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { type ErrorBody, HttpError } from '../errors.ts';

export interface ConnectionLimits {
  /** How long the headers of a request may take to come. */
  headersMs: number;
  /** How long a whole request may take to come, its body included. */
  requestMs: number;
}

export const connectionLimits: ConnectionLimits = { headersMs: 20_000, requestMs: 60_000 };

/** Most bytes of the headers of one request. */
export const HEADER_BYTES = 16 * 1024;

/** Slow and broken requests are answered in OpenAI's words and cut off. A slow answer is not: prefill may take its time. */
export function limitConnections(http: Server, { headersMs, requestMs }: ConnectionLimits): void {
  http.headersTimeout = headersMs;
  http.requestTimeout = requestMs;
  // Proxies and clients keep idle connections for a minute. Closed before them (Node's 5 s), a request
  // that is sent just then meets a reset connection.
  http.keepAliveTimeout = 75_000;
  http.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => {
    // An answer that has begun is not written into.
    const begun = (socket as { _httpMessage?: { headersSent?: boolean } })._httpMessage;
    if (!socket.writable || error.code === 'ECONNRESET' || begun?.headersSent === true) {
      socket.destroy();
      return;
    }
    socket.end(plainAnswer(meaning(error.code)));
  });
}

/** How often Node looks for connections that are too slow. */
export function checkEvery({ headersMs }: ConnectionLimits): number {
  return Math.max(10, Math.min(2_000, headersMs / 4));
}

function meaning(code: string | undefined): HttpError {
  if (code === 'HPE_HEADER_OVERFLOW') {
    const words = `Expected headers of at most ${HEADER_BYTES} bytes, got longer ones.`;
    return new HttpError(431, words, { code: 'headers_too_large' });
  }
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') {
    const words = 'Expected the whole request in time, got a part of it.';
    return new HttpError(408, words, { code: 'request_timeout' });
  }
  return new HttpError(400, 'Expected an HTTP request, got something else.', {
    code: 'bad_request',
  });
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
};

function plainAnswer(error: HttpError): string {
  const body: ErrorBody = error.body();
  const text = JSON.stringify(body);
  return [
    `HTTP/1.1 ${error.status} ${REASONS[error.status]}`,
    'content-type: application/json; charset=utf-8',
    `content-length: ${Buffer.byteLength(text)}`,
    'connection: close',
    '',
    text,
  ].join('\r\n');
}
