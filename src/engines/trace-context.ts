// The trace that a request belongs to, for engines that hand it on: a `traceparent` of the W3C.
import { AsyncLocalStorage } from 'node:async_hooks';

/** Empty where nothing is traced. */
export const traceParent = new AsyncLocalStorage<string>();
