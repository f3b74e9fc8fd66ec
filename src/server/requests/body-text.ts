// A request's body as it came: JavaScript's numbers are not Python's, and a chat template shows them.
import type { IncomingMessage } from 'node:http';
import { checkDepth } from '../limits/depth.ts';

const bodies = new WeakMap<IncomingMessage, Buffer>();

/**
 * For `express.json`: called with the body before it is parsed.
 *
 * @throws HttpError 400 for one that is nested too deeply
 */
export function keepBody(request: IncomingMessage, _response: unknown, body: Buffer): void {
  checkDepth(body);
  bodies.set(request, body);
}

/** The JSON text of a request's body. */
export function bodyText(request: IncomingMessage): string | undefined {
  return bodies.get(request)?.toString('utf8');
}
