// A request's body as it came: JavaScript's numbers are not Python's, and a chat template shows them.
import type { IncomingMessage } from 'node:http';

const bodies = new WeakMap<IncomingMessage, Buffer>();

/** The body before it is parsed. */
export function keepBody(request: IncomingMessage, body: Buffer): void {
  bodies.set(request, body);
}

/** The JSON text of a request's body. */
export function bodyText(request: IncomingMessage): string | undefined {
  return bodies.get(request)?.toString('utf8');
}
