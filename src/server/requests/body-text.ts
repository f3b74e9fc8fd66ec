// A request's body as it came: JavaScript's numbers are not Python's, and a chat template shows them.
import type { IncomingMessage } from 'node:http';
import { isTooDeep } from '../limits/depth.ts';

/** `type` of the error for a body that is nested too deeply. */
const TOO_DEEP = 'body.too.deep';

const bodies = new WeakMap<IncomingMessage, Buffer>();

/**
 * For `express.json`: called with the body before it is parsed.
 *
 * @throws for one that is nested too deeply; `type` is what errors.ts knows it by, as body-parser's own errors
 */
export function keepBody(request: IncomingMessage, _response: unknown, body: Buffer): void {
  if (isTooDeep(body)) {
    throw Object.assign(new Error('nested too deeply'), { status: 400, type: TOO_DEEP });
  }
  bodies.set(request, body);
}

/** The JSON text of a request's body. */
export function bodyText(request: IncomingMessage): string | undefined {
  return bodies.get(request)?.toString('utf8');
}
