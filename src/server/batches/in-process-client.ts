// A request to the routes of this server without a port: real HTTP over a connection within the process, so that
// a line of a batch passes what every request passes.
import { createServer, request as httpRequest, type RequestListener, type Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { duplexPair } from './duplex.ts';

export interface InProcessRequest<Origin> {
  path: string;
  /** JSON. */
  body: string;
  /** What the routes are to know of the request: they get it by `originOf`. */
  origin: Origin;
  signal: AbortSignal;
}

export interface InProcessResponse {
  status: number;
  requestId: string;
  /** Seconds after which to try again; null: the answer does not say. */
  retryAfter: number | null;
  /** JSON. */
  body: string;
}

export class InProcessClient<Origin extends object> {
  readonly #server: Server;
  readonly #origins = new WeakMap<object, Origin>();

  constructor(listener: RequestListener) {
    this.#server = createServer(listener);
    // Nobody outside can be slow here.
    this.#server.timeout = this.#server.requestTimeout = this.#server.headersTimeout = 0;
  }

  /** The origin of the request that came over this connection. */
  originOf(socket: object): Origin {
    return this.#origins.get(socket) as Origin;
  }

  /** @throws the signal's reason; Error where the connection breaks */
  async post({ path, body, origin, signal }: InProcessRequest<Origin>): Promise<InProcessResponse> {
    signal.throwIfAborted();
    const [ours, theirs] = duplexPair();
    this.#origins.set(theirs, origin);
    this.#server.emit('connection', theirs);
    const leave = (): void => void ours.destroy();
    signal.addEventListener('abort', leave, { once: true });
    try {
      return await exchange(ours, path, body);
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      signal.removeEventListener('abort', leave);
      ours.destroy();
    }
  }
}

function exchange(socket: Duplex, path: string, body: string): Promise<InProcessResponse> {
  return new Promise((resolve, reject) => {
    const bytes = Buffer.from(body);
    const headers = { 'content-type': 'application/json', 'content-length': bytes.length };
    const createConnection = () => socket;
    const request = httpRequest({ method: 'POST', path, headers, createConnection }, (answer) => {
      const parts: Buffer[] = [];
      answer.on('data', (part: Buffer) => parts.push(part));
      answer.on('error', reject);
      answer.on('end', () => {
        if (!answer.complete)
          return reject(new Error('the answer within the process is incomplete'));
        const later = answer.headers['retry-after'];
        resolve({
          status: answer.statusCode ?? 0,
          requestId: String(answer.headers['x-request-id']),
          retryAfter: later === undefined ? null : Number(later),
          body: Buffer.concat(parts).toString('utf8'),
        });
      });
    });
    request.on('error', reject);
    request.end(bytes);
  });
}
