// One generation over HTTP: a place in the queue, a session, an answer whole or streamed.
import type { Request, Response } from 'express';
import type { Logger } from 'pino';
import type { Contract } from '../../contract/schema.ts';
import { runMany } from '../../engines/many.ts';
import type { Health, Layout, Run, RunEvent, Runner, RunRequest } from '../../engines/runner.ts';
import { isEngineLost } from '../../engines/stepped.ts';
import type { PlannerSource } from '../../planner/index.ts';
import type { Tokenizer } from '../../planner/tokenizer.ts';
import { HttpError, toHttpError } from '../errors.ts';
import type { Account, Accounts } from '../limits/accounts.ts';
import type { Gate } from '../limits/gate.ts';
import type { Metrics, Outcome } from '../metrics.ts';
import { TokenShow } from '../prompt/tokens.ts';
import { Echoes } from './echo.ts';
import type { Reply, SampledToken, Script, Usage, WholeChoice } from './reply.ts';
import { Sources, type SourcesAsked } from './sources.ts';
import { EventStream, type EventStreamOptions } from './sse.ts';
import { spansOf, type Trace } from './trace.ts';

/** What generations share. */
export interface Workshop {
  runner: Runner;
  tokenizer: Tokenizer;
  source: PlannerSource;
  gate: Gate;
  /** What callers have used, and what they may use. */
  accounts: Accounts;
  metrics: Metrics;
  log: Logger;
  /** Aborts when the server's patience with running generations ends. */
  closing: AbortSignal;
  stream: EventStreamOptions;
}

export interface Job {
  /** One for each prompt of the request, alike but for that. */
  runs: readonly [RunRequest, ...RunRequest[]];
  /** Texts of the prompts, where the answer begins with them; null for token ids. */
  echo: readonly (string | null)[] | null;
  reply: Reply | Script;
  stream: boolean;
  includeUsage: boolean;
  trace: boolean;
  /** What to tell sources by; null: they are not wanted. */
  sources: SourcesAsked | null;
}

/** Between two looks at a session's memory, tokens. */
const MEMORY_EVERY = 32;

/**
 * Generate and answer. When the client goes away the generation stops and its session is freed. A
 * failure before the first byte is an HTTP status; one in a stream is an error event, after which
 * neither a finish reason nor `[DONE]` follows.
 */
export async function answer(
  request: Request,
  response: Response,
  job: Job,
  shop: Workshop,
): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) gone.abort();
  });
  // The socket may have closed while the body was being tokenized.
  if (request.socket.destroyed) gone.abort();
  const signal = AbortSignal.any([gone.signal, shop.closing]);
  const health = shop.runner.health();
  // What was asked for is known to fail: say so at once instead of after a wait in the queue.
  if (!health.ready) throw notReady(health);
  const account = await shop.accounts.enter(response, promptTokens(job));
  const release = await shop.gate.acquire(gone.signal);
  let stream: EventStream | null = null;
  account.begin();
  const count = new Tally(job, shop, response, account);
  try {
    signal.throwIfAborted();
    const running = await runMany(shop.runner, job.runs, signal);
    count.memory = running.memory;
    if (job.stream) {
      stream = new EventStream(response, shop.stream);
      if ('begin' in job.reply) await told(stream, running, job.reply, count);
      else await streamed(stream, running, { ...job, reply: job.reply }, shop, count);
    } else {
      await whole(response, running, job, shop, count);
    }
  } catch (error) {
    if (gone.signal.aborted) {
      count.end('cancelled');
      response.destroy();
      return;
    }
    count.end('error');
    const known = shop.closing.aborted ? shutDown() : toHttpError(error);
    if (stream === null) throw known;
    response.locals['code'] = known.code;
    // The end of the server is told in one line, not in one for each stream.
    if (!shop.closing.aborted) {
      shop.log.error({ requestId: response.locals['requestId'], err: error }, 'stream failed');
    }
    await stream.send('failed' in job.reply ? job.reply.failed(known) : known.body());
    stream.end();
  } finally {
    count.end('error');
    release();
  }
}

/** How many texts a request asks for, after all of its prompts. */
function choicesOf({ runs }: Job): number {
  return runs.length * (runs[0].extra?.n ?? 1);
}

function promptTokens({ runs }: Job): number {
  return runs.reduce((sum, run) => sum + run.prompt.length, 0);
}

function echoesOf({ echo, runs }: Job, { tokenizer }: Workshop): Echoes | null {
  return echo && new Echoes(echo, runs[0].extra?.n ?? 1, tokenizer);
}

async function whole(
  response: Response,
  running: Run,
  job: Job,
  shop: Workshop,
  count: Tally,
): Promise<void> {
  type Growing = { parts: string[]; tokens: SampledToken[]; reason: WholeChoice['reason'] };
  const growing = Array.from(
    { length: choicesOf(job) },
    (): Growing => ({ parts: [], tokens: [], reason: 'length' }),
  );
  const [first] = job.runs;
  const echoes = echoesOf(job, shop);
  const seen = new SeenLayout();
  const sources = sourcesOf(job, shop);
  for await (const event of running.events) {
    await count.see(event);
    seen.see(event);
    sources?.see(event);
    echoes?.see(event);
    const mine = growing[event.choice];
    if (event.type === 'ran' || mine === undefined) continue;
    const echoed = echoes?.take(event.choice, first.logprobs !== null);
    if (echoed) {
      mine.parts.push(echoed.text);
      mine.tokens.push(...echoed.tokens);
    }
    mine.parts.push(event.text);
    if (event.type === 'token') mine.tokens.push(event);
    else mine.reason = event.reason;
  }
  const choices = growing.map(({ parts, ...rest }) => ({ text: parts.join(''), ...rest }));
  count.end(choices[0]?.reason ?? 'length');
  const answer = job.reply.whole(choices, count.usage);
  const lockstep = {
    ...(first.layout ? (running.layout() ?? seen.layout) : {}),
    ...(sources === null ? {} : { sources: sources.all }),
  };
  response.json({ ...answer, ...(Object.keys(lockstep).length === 0 ? {} : { lockstep }) });
}

function sourcesOf({ sources }: Job, { tokenizer, source }: Workshop): Sources | null {
  return sources && new Sources(sources, tokenizer, source.contract);
}

async function streamed(
  stream: EventStream,
  { events }: Run,
  job: Job & { reply: Reply },
  shop: Workshop,
  count: Tally,
): Promise<void> {
  const { reply } = job;
  const send = (choices: readonly object[], more: object = {}) =>
    stream.send({
      ...reply.chunk(choices),
      ...(job.includeUsage ? { usage: null } : {}),
      ...more,
    });
  const choices = choicesOf(job);
  const echoes = echoesOf(job, shop);
  for (let choice = 0; choice < choices; choice++) {
    const opening = reply.opening(choice);
    if (opening !== null) await send([opening]);
  }
  const tracer = job.trace ? new Tracer(shop) : null;
  const sources = sourcesOf(job, shop);
  /** The `lockstep` field of a chunk, where it has one. */
  const shown = (): { lockstep?: object } => {
    const lockstep = { ...tracer?.take(), ...sources?.take() };
    return Object.keys(lockstep).length === 0 ? {} : { lockstep };
  };
  let open = choices;
  for await (const event of events) {
    const memory = await count.see(event, tracer !== null);
    const { choice } = event;
    sources?.see(event);
    echoes?.see(event);
    const echoed =
      event.type === 'ran' ? null : echoes?.take(choice, job.runs[0].logprobs !== null);
    if (echoed) {
      const delta = reply.delta(choice, echoed.text, echoed.tokens);
      if (delta !== null) await send([delta]);
    }
    if (event.type === 'ran') {
      tracer?.ran(event, memory);
      // A long prompt is told of as it runs; afterwards every token's own chunk tells.
      if (tracer !== null && event.prompt) await send([], shown());
    } else if (event.type === 'token') {
      const delta = reply.delta(choice, event.text, [event]);
      const more = shown();
      if (delta !== null || more.lockstep !== undefined) {
        await send(delta === null ? [] : [delta], more);
      }
    } else {
      const delta = event.text === '' ? null : reply.delta(choice, event.text, []);
      if (delta !== null) await send([delta]);
      open -= 1;
      if (open === 0) count.end(event.reason);
      await send([reply.closing(choice, event.reason)], shown());
    }
  }
  if (job.includeUsage) await stream.send({ ...reply.chunk([]), usage: count.usage });
  await stream.send('[DONE]');
  stream.end();
}

/** A stream of events with types. */
async function told(
  stream: EventStream,
  { events }: Run,
  script: Script,
  count: Tally,
): Promise<void> {
  const send = async (list: Iterable<object>) => {
    for (const event of list) await stream.send(event);
  };
  await send(script.begin());
  for await (const event of events) {
    await count.see(event);
    if (event.type === 'token') await send(script.text(event.text));
    if (event.type !== 'end') continue;
    await send(script.end(event.text, event.reason));
    count.end(event.reason);
    await stream.send(script.done(event.reason, count.usage));
  }
  stream.end();
}

/** The layout of segments as the steps of an engine showed it. */
class SeenLayout {
  readonly #segments: [number, number][] = [];
  #start = 0;
  #position = 0;

  see(event: RunEvent): void {
    if (event.type !== 'ran') return;
    this.#position = event.from + event.tokens.length;
    if (event.boundary === null) return;
    this.#segments.push([this.#start, event.boundary.at]);
    this.#start = event.boundary.at;
  }

  get layout(): Layout {
    const open: Layout['open'] =
      this.#position > this.#start ? [this.#start, this.#position] : null;
    return { segments: this.#segments, open };
  }
}

/** Gathers what has run since the last chunk. */
class Tracer {
  readonly #contract: Contract;
  readonly #show: TokenShow;
  #trace: Trace;

  constructor(shop: Workshop) {
    this.#contract = shop.source.contract;
    this.#show = new TokenShow(shop.tokenizer);
    this.#trace = {
      position: 0,
      tokens: [],
      segment: { index: 0, start: 0, length: 0 },
      cut: null,
      retrieved: null,
      memory: null,
    };
  }

  ran(event: RunEvent & { type: 'ran' }, memory: Trace['memory']): void {
    const trace = this.#trace;
    for (const id of event.tokens) trace.tokens.push(this.#show.push(id));
    trace.position += event.tokens.length;
    trace.segment = { ...trace.segment, length: trace.position - trace.segment.start };
    trace.memory = memory;
    if (event.boundary === null) return;
    const { carry, heads } = this.#contract;
    trace.cut = event.boundary.at;
    trace.retrieved =
      event.boundary.retrieved && spansOf(event.boundary.retrieved, carry.sinks, heads.long);
    trace.segment = { index: trace.segment.index + 1, start: event.boundary.at, length: 0 };
  }

  take(): Trace {
    const trace = this.#trace;
    this.#trace = { ...trace, tokens: [], cut: null, retrieved: null, memory: null };
    return trace;
  }
}

/** Counts one generation for usage, metrics and the log. */
class Tally {
  readonly #job: Job;
  readonly #shop: Workshop;
  readonly #response: Response;
  readonly #account: Account;
  readonly #since = performance.now();
  /** When each choice's last token came. */
  readonly #last: number[] = [];
  readonly #segmentStart: number[] = [];
  #completion = 0;
  /** Each prompt's last boundary: where the open segment of each of its choices begins. */
  readonly #promptEnd: number[] = [];
  /** Tokens of prompts that were remembered. */
  #cached = 0;
  #memoryIn = 0;
  #outcome: Outcome | null = null;
  /** The session's, once there is one. */
  memory: Run['memory'] | null = null;

  constructor(job: Job, shop: Workshop, response: Response, account: Account) {
    this.#job = job;
    this.#shop = shop;
    this.#response = response;
    this.#account = account;
  }

  get usage(): Usage {
    const prompt = promptTokens(this.#job);
    return {
      prompt_tokens: prompt,
      completion_tokens: this.#completion,
      total_tokens: prompt + this.#completion,
      ...(this.#shop.runner.memory === undefined
        ? {}
        : { prompt_tokens_details: { cached_tokens: this.#cached } }),
    };
  }

  /** Count an event; gives the session's memory where it was worth asking. */
  async see(event: RunEvent, always = false): Promise<Trace['memory']> {
    const { metrics } = this.#shop;
    if (event.type === 'token') {
      const now = performance.now();
      const last = this.#last[event.choice];
      if (last !== undefined) metrics.interToken.observe((now - last) / 1000);
      else if (event.choice === 0) metrics.firstToken.observe((now - this.#since) / 1000);
      this.#last[event.choice] = now;
      this.#completion += 1;
      metrics.tokens.inc({ kind: 'completion' });
      this.#account.wrote(1);
    }
    if (event.type !== 'ran') return null;
    const kind = event.cached ? 'cached' : 'prompt';
    if (event.prompt) metrics.tokens.inc({ kind }, event.tokens.length);
    if (event.cached) this.#cached += event.tokens.length;
    if (event.boundary !== null) {
      const prompt = Math.floor(event.choice / (this.#job.runs[0].extra?.n ?? 1));
      const start = this.#segmentStart[event.choice] ?? this.#promptEnd[prompt] ?? 0;
      if (!event.cached) {
        metrics.segments.inc();
        metrics.segmentTokens.observe(event.boundary.at - start);
      }
      this.#segmentStart[event.choice] = event.boundary.at;
      if (event.prompt) this.#promptEnd[prompt] = event.boundary.at;
    }
    this.#memoryIn -= event.tokens.length;
    if (!always && event.boundary === null && this.#memoryIn > 0) return null;
    this.#memoryIn = MEMORY_EVERY;
    const memory = (await this.memory?.()) ?? null;
    metrics.hold(this, memory);
    return memory;
  }

  /** Only the first outcome counts. */
  end(outcome: Outcome): void {
    if (this.#outcome !== null) return;
    this.#outcome = outcome;
    this.#shop.metrics.hold(this, null);
    this.#shop.metrics.generations.inc({ outcome });
    const { prompt_tokens, completion_tokens } = this.usage;
    this.#response.locals['usage'] = { prompt_tokens, completion_tokens, outcome };
  }
}

function notReady({ status, error }: Health): HttpError {
  const why = error === undefined ? `The engine is not ready: ${status}.` : toHttpError(error);
  if (typeof why === 'string') return new HttpError(503, why, { code: 'not_ready', retryAfter: 5 });
  const code = why.code ?? 'not_ready';
  // An engine that is gone stays gone: to wait would be in vain.
  const later = isEngineLost(error) ? {} : { retryAfter: 5 };
  return new HttpError(503, why.message, { code, ...later, cause: error });
}

function shutDown(): HttpError {
  return new HttpError(503, 'The server is shutting down; the answer is incomplete.', {
    code: 'shutting_down',
    retryAfter: 5,
  });
}
