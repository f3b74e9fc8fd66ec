// The options of `lockstep serve` that say how much one request or one client may take.
import type { Command } from 'commander';
import type { ServerOptions } from '../../server/index.ts';
import {
  parseNonNegativeInt,
  parsePositiveInt,
  parsePositiveNumber,
} from '../shared/option-values.ts';

export interface BoundOptions {
  maxPerKey?: number;
  maxCompletion?: number;
  maxMessages?: number;
  queueTimeout?: number;
  requestTimeout?: number;
  largeRequestThreads?: number;
  maxQueuedLargeRequests?: number;
}

export function addBoundOptions(command: Command): Command {
  return command
    .option(
      '--max-per-key <n>',
      'maximum generations at once of one key of --keys (default: one less than --max-sessions)',
      parsePositiveInt,
    )
    .option(
      '--max-completion <n>',
      'maximum tokens of an answer (default: no limit; a chat that asks for no number gets 4096)',
      parsePositiveInt,
    )
    .option(
      '--max-messages <n>',
      'maximum messages of a conversation (default: 4096)',
      parsePositiveInt,
    )
    .option(
      '--queue-timeout <s>',
      'seconds in the queue after which a request gets 503 (default: no limit)',
      parsePositiveNumber,
    )
    .option(
      '--request-timeout <s>',
      'seconds after which a request is stopped (default: no limit)',
      parsePositiveNumber,
    )
    .option(
      '--large-request-threads <n>',
      'threads that read large requests (default: 1)',
      parsePositiveInt,
    )
    .option(
      '--max-queued-large-requests <n>',
      'maximum large requests that wait for one (default: 16)',
      parseNonNegativeInt,
    );
}

/** The server's options of the same meaning: those that were given. */
export function boundsFrom(options: BoundOptions): ServerOptions {
  const ms = (seconds: number | undefined) => (seconds === undefined ? undefined : seconds * 1000);
  const given = {
    maxPerCaller: options.maxPerKey,
    maxCompletion: options.maxCompletion,
    maxMessages: options.maxMessages,
    queueTimeoutMs: ms(options.queueTimeout),
    requestTimeoutMs: ms(options.requestTimeout),
    largeThreads: options.largeRequestThreads,
    maxLarge: options.maxQueuedLargeRequests,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}
