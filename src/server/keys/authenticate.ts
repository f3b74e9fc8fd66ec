// Which key a request shows, whose it is, and what that caller may see.
import { timingSafeEqual } from 'node:crypto';
import type { Request, RequestHandler, Response } from 'express';
import { ipKeyGenerator } from 'express-rate-limit';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { busy, HttpError } from '../errors.ts';
import { ANONYMOUS, type Caller, callerOf, KEYHOLDER, setCaller } from './caller.ts';
import type { KeyRing } from './ring.ts';
import { digest } from './secret.ts';

/** Wrong keys from one address in a minute, after which it has to wait. */
const MOST_WRONG = 30;

/** Finds a key's owner. */
interface Judge {
  /** Whether judging this key takes long. */
  isCostly(key: string): boolean;
  find(key: string): Promise<Caller | null>;
}

/**
 * Ask for `Authorization: Bearer KEY`, and write down who calls.
 *
 * @param keys one key, a keys file, or null, which asks for nothing
 */
export function authenticate(keys: string | KeyRing | null): RequestHandler {
  if (keys === null) {
    return (_request, response, next) => {
      setCaller(response, ANONYMOUS);
      next();
    };
  }
  const judge = typeof keys === 'string' ? oneKey(keys) : keys;
  const wrong = new RateLimiterMemory({ points: MOST_WRONG, duration: 60 });
  return async (request, response, next) => {
    const given = /^Bearer +(.+)$/i.exec(request.get('authorization') ?? '')?.[1];
    if (given === undefined) {
      const words = 'Expected an `Authorization: Bearer` header with an API key of this server.';
      throw unauthorized(response, words);
    }
    const address = addressOf(request);
    // Only guessing is slowed down: a key that was seen before costs nothing to judge.
    const guesses = await wrong.get(address);
    const exhausted = guesses !== null && guesses.remainingPoints <= 0;
    if (exhausted && judge.isCostly(given)) throw tooMany(guesses.msBeforeNext);
    const caller = await judge.find(given);
    if (caller !== null) {
      setCaller(response, caller);
      return next();
    }
    if (exhausted) throw tooMany(guesses.msBeforeNext);
    await wrong.penalty(address);
    throw unauthorized(response, 'Unknown API key.');
  };
}

/** Only callers that may see what concerns all callers. */
export function operatorsOnly(): RequestHandler {
  return (_request, response, next) => {
    if (callerOf(response)?.operator === true) return next();
    throw new HttpError(
      403,
      'Expected a key that may read metrics; this one may not. Make one with `lockstep keys add FILE NAME --metrics`.',
      { type: 'permission_error', code: 'key_without_metrics' },
    );
  };
}

/** The client's address; of IPv6 the part that one customer has to itself. */
export function addressOf(request: Request): string {
  return ipKeyGenerator(request.ip ?? request.socket.remoteAddress ?? 'unknown');
}

function oneKey(key: string): Judge {
  const expected = digest(key);
  return {
    isCostly: () => false,
    find: async (given) => (timingSafeEqual(digest(given), expected) ? KEYHOLDER : null),
  };
}

function unauthorized(response: Response, words: string): HttpError {
  response.set('www-authenticate', 'Bearer');
  return new HttpError(401, words, { type: 'authentication_error', code: 'invalid_api_key' });
}

function tooMany(ms: number): HttpError {
  return busy(`Expected at most ${MOST_WRONG} wrong keys a minute from one address.`, ms / 1000);
}
