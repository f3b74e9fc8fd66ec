// Server-sent events as OpenAI frames them, at the pace of the reader.
import type { Response } from 'express';
import { HttpError } from '../errors.ts';

export interface EventStreamOptions {
  /** A comment goes out after this long without an event, so that proxies keep the connection. */
  keepAliveMs: number;
  /** A reader that takes nothing for this long is given up. */
  stallMs: number;
}

/** One open `text/event-stream` response. `send` resolves once the reader has room for more. */
export class EventStream {
  readonly #response: Response;
  readonly #options: EventStreamOptions;
  readonly #timer: NodeJS.Timeout;
  #last = performance.now();

  constructor(response: Response, options: EventStreamOptions) {
    this.#response = response;
    this.#options = options;
    response.status(200).set({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    });
    response.flushHeaders();
    this.#timer = setInterval(() => {
      const idle = performance.now() - this.#last >= options.keepAliveMs;
      if (idle && !response.writableNeedDrain && response.writable) response.write(': wait\n\n');
    }, options.keepAliveMs);
    this.#timer.unref();
    response.once('close', () => clearInterval(this.#timer));
  }

  /** A line that readers skip, at once. */
  comment(text: string): void {
    if (this.#response.writable) this.#response.write(`: ${text}\n\n`);
  }

  /** One event with a JSON value (or the literal `[DONE]`); one that says its `type` is named by it. */
  async send(value: unknown): Promise<void> {
    this.#last = performance.now();
    const response = this.#response;
    if (response.destroyed || !response.writable) return;
    const text = value === '[DONE]' ? '[DONE]' : JSON.stringify(value);
    const type = (value as { type?: unknown } | null)?.type;
    const name = typeof type === 'string' ? `event: ${type}\n` : '';
    if (response.write(`${name}data: ${text}\n\n`)) return;
    await new Promise<void>((resolve, reject) => {
      const settle = (error?: Error) => {
        clearTimeout(stall);
        response.off('drain', onDrain);
        response.off('close', onDrain);
        if (error === undefined) resolve();
        else reject(error);
      };
      const onDrain = () => settle();
      const stall = setTimeout(() => {
        const seconds = this.#options.stallMs / 1000;
        settle(
          new HttpError(408, `The client read nothing for ${seconds} s.`, {
            code: 'client_stalled',
          }),
        );
        response.destroy();
      }, this.#options.stallMs);
      response.once('drain', onDrain);
      response.once('close', onDrain);
    });
  }

  end(): void {
    clearInterval(this.#timer);
    if (!this.#response.writableEnded) this.#response.end();
  }
}
