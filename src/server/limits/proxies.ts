// Which proxies are believed when they say who the client is.
import express, { type Express } from 'express';
import { LockstepError } from '../../errors.ts';

/**
 * @param proxies addresses, networks (`10.0.0.0/8`), `loopback`, `linklocal`, `uniquelocal`; from anybody else
 *   `X-Forwarded-For` says nothing
 * @throws LS_SERVE_PROXY
 */
export function trustProxies(app: Express, proxies: readonly string[]): void {
  if (proxies.length === 0) return;
  try {
    app.set('trust proxy', [...proxies]);
  } catch (cause) {
    throw new LockstepError(
      'LS_SERVE_PROXY',
      `expected addresses or networks of proxies, got ${proxies.join(', ')} (${(cause as Error).message})`,
      {
        fix: 'Give exact addresses where you can: --trust-proxy loopback 10.0.0.7',
        field: 'trust-proxy',
        cause,
      },
    );
  }
}

/** What `trustProxies` refuses, before there is a server. @throws LS_SERVE_PROXY */
export function checkProxies(proxies: readonly string[]): void {
  trustProxies(express(), proxies);
}
