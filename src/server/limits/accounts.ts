// What each caller has used: tokens a minute and a day, generations at once. Kept by key, counted for metrics.
import type { Response } from 'express';
import { Counter, Gauge, type Registry } from 'prom-client';
import { RateLimiterMemory, type RateLimiterRes } from 'rate-limiter-flexible';
import { busy, HttpError } from '../errors.ts';
import { type ExemplarHistogram, exemplarHistogram, withExemplar } from '../exemplars.ts';
import { ANONYMOUS, type Caller, callerOf } from '../keys/caller.ts';
import { TOKENS } from '../timings.ts';
import { backgroundOf } from './ticket.ts';

/** One generation on a caller's account. */
export interface Account {
  /** It holds a slot: its prompt counts from now on, whatever becomes of it. */
  begin(): void;
  /** Tokens were written. */
  wrote(tokens: number): void;
}

/** Windows in which tokens are counted, by the field that limits them. */
const WINDOWS = { tokensPerMinute: 60, tokensPerDay: 24 * 3600 } as const;
type Window = keyof typeof WINDOWS;

/** More than anybody uses: what a key may use is compared here, since each key has its own limit. */
const UNBOUNDED = Number.MAX_SAFE_INTEGER;

/** Tokens that were taken from one window. */
interface Reservation {
  window: Window;
  key: string;
  tokens: number;
  /** When the window ends, milliseconds since 1970: in the next one they do not count. */
  ends: number;
}

export class Accounts {
  readonly #used = Object.fromEntries(
    Object.entries(WINDOWS).map(([name, duration]) => [
      name,
      new RateLimiterMemory({ points: UNBOUNDED, duration }),
    ]),
  ) as Record<Window, RateLimiterMemory>;
  readonly #sessions = new Map<string, number>();
  readonly #tokens: Counter<'caller' | 'kind'>;
  readonly #promptTokens: ExemplarHistogram<'caller'>;
  readonly #completionTokens: ExemplarHistogram<'caller'>;
  readonly #refused: Counter<'caller' | 'limit'>;

  constructor(registry: Registry) {
    const registers = [registry];
    this.#tokens = new Counter({
      name: 'lockstep_caller_tokens_total',
      help: 'Tokens by caller and kind: prompt and completion, as usage counts them.',
      labelNames: ['caller', 'kind'],
      registers,
    });
    const histogram = (name: string, help: string) =>
      exemplarHistogram(registry, name, help, TOKENS, ['caller']);
    this.#promptTokens = histogram(
      'lockstep_caller_prompt_tokens',
      'Tokens of a request’s prompts, by caller; only of requests that got a slot.',
    );
    this.#completionTokens = histogram(
      'lockstep_caller_completion_tokens',
      'Tokens that a request wrote, by caller; only of requests that got a slot.',
    );
    this.#refused = new Counter({
      name: 'lockstep_caller_refused_total',
      help: 'Requests refused, by caller and limit: requests_per_minute, tokens_per_minute, tokens_per_day, sessions.',
      labelNames: ['caller', 'limit'],
      registers,
    });
    const sessions = this.#sessions;
    new Gauge({
      name: 'lockstep_caller_sessions',
      help: 'Generations that run or wait, by caller.',
      labelNames: ['caller'],
      registers,
      collect() {
        this.reset();
        for (const [caller, count] of sessions) this.set({ caller }, count);
      },
    });
  }

  /** A limit that is kept elsewhere has refused a request. */
  refused(response: Response, limit: 'requests_per_minute'): void {
    this.#refused.inc({ caller: callerOf(response)?.name ?? ANONYMOUS.name, limit });
  }

  /**
   * Enter a generation on its caller's account until the response closes. The prompt must fit into what the
   * caller has left; the answer counts as it is written, so that one answer may go past the limit and the
   * next request is refused.
   *
   * @param prompt tokens of all its prompts
   * @throws HttpError 429 `too_many_sessions`, `too_many_tokens`, `token_budget_spent`
   */
  async enter(response: Response, prompt: number): Promise<Account> {
    const caller = callerOf(response);
    if (caller === null) throw new Error('a generation without a caller');
    const { name, limits } = caller;
    // Work in the background does not count against the sessions of its key.
    const counted = backgroundOf(response) === undefined;
    const open = this.#sessions.get(name) ?? 0;
    if (counted && limits.sessions !== undefined && open >= limits.sessions) {
      this.#refused.inc({ caller: name, limit: 'sessions' });
      const words = `Expected at most ${limits.sessions} generations at once with the key ${name}.`;
      throw busy(words, 1, 'too_many_sessions');
    }
    if (counted) this.#sessions.set(name, open + 1);
    /** Tokens of its answer; null: it has no slot yet, and its prompt is only reserved. */
    let written: number | null = null;
    let reserved: readonly Reservation[] = [];
    let left = false;
    const leave = (): void => {
      if (left) return;
      left = true;
      if (counted) this.#leave(name);
      if (written === null) this.#giveBack(reserved);
      else this.#observe(response, name, prompt, written);
    };
    response.once('close', leave);
    try {
      reserved = await this.#reserve(caller, prompt);
    } catch (error) {
      // Nothing was reserved, so nothing is given back.
      leave();
      throw error;
    }
    // It left before it was known what was reserved.
    if (left) this.#giveBack(reserved);
    else if (response.closed) leave();
    return {
      begin: () => {
        written ??= 0;
        this.#tokens.inc({ caller: name, kind: 'prompt' }, prompt);
      },
      wrote: (tokens) => {
        written = (written ?? 0) + tokens;
        this.#tokens.inc({ caller: name, kind: 'completion' }, tokens);
        this.#spend(caller, tokens);
      },
    };
  }

  #observe(response: Response, caller: string, prompt: number, written: number): void {
    const id = String(response.locals['requestId']);
    this.#promptTokens.observe(withExemplar(id, { caller }, prompt));
    this.#completionTokens.observe(withExemplar(id, { caller }, written));
  }

  #leave(name: string): void {
    const count = (this.#sessions.get(name) ?? 1) - 1;
    if (count === 0) this.#sessions.delete(name);
    else this.#sessions.set(name, count);
  }

  /** Take a prompt's tokens from every window that limits the caller, or from none. */
  async #reserve(caller: Caller, tokens: number): Promise<Reservation[]> {
    const windows = limitedBy(caller);
    const after = await Promise.all(
      windows.map(([window, , key]) => this.#used[window].penalty(key, tokens)),
    );
    const now = Date.now();
    const reserved = windows.map(([window, , key], i) => {
      const { msBeforeNext } = after[i] as RateLimiterRes;
      return { window, key, tokens, ends: now + msBeforeNext };
    });
    for (const [i, [window, limit]] of windows.entries()) {
      const used = after[i] as RateLimiterRes;
      if (used.consumedPoints <= limit) continue;
      this.#giveBack(reserved);
      throw this.#refusal(caller, window, limit, tokens, used);
    }
    return reserved;
  }

  /** What was reserved and not used: a window that has begun since does not owe it. */
  #giveBack(reserved: readonly Reservation[]): void {
    for (const { window, key, tokens, ends } of reserved) {
      if (Date.now() >= ends) continue;
      const used = this.#used[window];
      void used.penalty(key, -tokens).then(({ consumedPoints: now }) => {
        // The clock was at the very end of the window.
        if (now < 0) return used.penalty(key, -now);
      });
    }
  }

  #spend(caller: Caller, tokens: number): void {
    // Kept in memory: it has happened when the call returns.
    for (const [window, , key] of limitedBy(caller)) void this.#used[window].penalty(key, tokens);
  }

  #refusal(
    { name }: Caller,
    window: Window,
    limit: number,
    tokens: number,
    { consumedPoints, msBeforeNext }: RateLimiterRes,
  ): HttpError {
    const day = window === 'tokensPerDay';
    this.#refused.inc({ caller: name, limit: day ? 'tokens_per_day' : 'tokens_per_minute' });
    const left = Math.max(0, limit - (consumedPoints - tokens));
    const words = `Expected at most ${limit} tokens in ${day ? '24 hours' : 'a minute'} with the key ${name}; ${left} are left, and the prompt has ${tokens}.`;
    if (tokens > limit) {
      return new HttpError(400, words, { code: 'prompt_over_limit' });
    }
    return busy(words, msBeforeNext / 1000, day ? 'token_budget_spent' : 'too_many_tokens');
  }
}

/** The windows that limit a caller: which, how much, and under which name it is counted. */
function limitedBy({ name, id, limits }: Caller): [Window, number, string][] {
  return (Object.keys(WINDOWS) as Window[]).flatMap((window) => {
    const limit = limits[window];
    return limit === undefined ? [] : [[window, limit, id ?? name]];
  });
}
