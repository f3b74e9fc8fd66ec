// Requests a minute: by key where there are keys, else by the client's address.
import type { Request, RequestHandler, Response } from 'express';
import { rateLimit } from 'express-rate-limit';
import { busy } from '../errors.ts';
import { addressOf } from '../keys/authenticate.ts';
import { callerOf } from '../keys/caller.ts';
import type { Accounts } from './accounts.ts';

/**
 * At most `perMinute` requests a minute from one caller; a key's own limit goes before it.
 *
 * @param perMinute null sets no limit but those of keys
 * @param accounts counts each refusal by caller
 */
export function limitRate(perMinute: number | null, accounts: Accounts): RequestHandler {
  const limitOf = (response: Response): number | null =>
    callerOf(response)?.limits.requestsPerMinute ?? perMinute;
  return rateLimit({
    windowMs: 60_000,
    limit: (_request, response) => limitOf(response) ?? Number.MAX_SAFE_INTEGER,
    skip: (_request, response) => limitOf(response) === null,
    keyGenerator: ofCaller,
    standardHeaders: 'draft-8',
    legacyHeaders: false,
    // Which proxies are believed is said on purpose: --trust-proxy.
    validate: { xForwardedForHeader: false },
    handler: (_request, response, next, { windowMs }) => {
      const { name, id } = callerOf(response) ?? {};
      accounts.refused(response, 'requests_per_minute');
      const whom = id === undefined ? 'one address' : `the key ${name}`;
      const words = `Expected at most ${limitOf(response)} requests a minute from ${whom}.`;
      const left = Number(response.getHeader('retry-after') ?? windowMs / 1000);
      next(busy(words, left));
    },
  });
}

function ofCaller(request: Request, response: Response): string {
  const id = callerOf(response)?.id;
  return id === undefined ? `address ${addressOf(request)}` : `key ${id}`;
}
