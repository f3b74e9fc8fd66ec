// One generation over HTTP: a slot in the queue, a session, an answer whole or streamed.
import type { Request, Response } from 'express';
import type { Contract } from '../../contract/schema.ts';
import { runMany } from '../../engines/many.ts';
import type { Health, Run, RunEvent, SegmentSpans } from '../../engines/runner.ts';
import { isEngineLost } from '../../engines/stepped.ts';
import { HttpError, toHttpError } from '../errors.ts';
import { Deadline } from '../limits/deadline.ts';
import { backgroundOf, ticketOf, timeoutsOf } from '../limits/ticket.ts';
import { TokenShow } from '../prompt/tokens.ts';
import { Echoes } from './echo.ts';
import { GenerationStats } from './generation-stats.ts';
import { type Job, type ModelContext, promptTokens } from './job.ts';
import type { EventFormat, ResponseFormat, SampledToken, WholeChoice } from './response-format.ts';
import { Sources } from './sources.ts';
import { EventStream } from './sse.ts';
import { spansOf, type Trace } from './trace.ts';

export type { Job, ModelContext } from './job.ts';

/**
 * Generate and answer. When the client goes away the generation stops and its session is freed. A
 * failure before the first byte is an HTTP status; one in a stream is an error event, after which
 * neither a finish reason nor `[DONE]` follows.
 */
export async function answer(
  request: Request,
  response: Response,
  job: Job,
  context: ModelContext,
): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) gone.abort();
  });
  // The socket may have closed while the body was being tokenized.
  if (request.socket.destroyed) gone.abort();
  const health = context.runner.health();
  // What was asked for is known to fail: say so at once instead of after a wait in the queue.
  if (!health.ready) throw notReady(health);
  const account = await context.accounts.enter(response, promptTokens(job));
  const stats = new GenerationStats(job, context, response, account);
  const deadline = new Deadline(request, response, timeoutsOf(response, context.timeouts));
  const signal = AbortSignal.any([gone.signal, context.closing, deadline.total]);
  let stream: EventStream | null = null;
  let release: (() => void) | null = null;
  let running: Run | null = null;
  const begin = () => {
    stream ??= new EventStream(response, context.stream);
    return stream;
  };
  try {
    const waiting = AbortSignal.any([gone.signal, deadline.total, deadline.queue()]);
    // A stream that has to wait says so: proxies give up on a connection without a byte.
    const onWait = () => job.stream && begin().comment('waiting for a slot');
    release = await context.queue.acquire(waiting, { ...ticketOf(response), onWait });
    stats.admitted();
    signal.throwIfAborted();
    const background = backgroundOf(response) !== undefined;
    const runs = background ? job.runs.map((run) => ({ ...run, background })) : job.runs;
    running = await runMany(context.runner, runs, signal);
    stats.memory = running.memory;
    if (job.stream) {
      if ('begin' in job.format) await told(begin(), running, job.format, stats);
      else await streamed(begin(), running, { ...job, format: job.format }, context, stats);
    } else {
      await whole(response, running, job, context, stats);
    }
  } catch (error) {
    if (gone.signal.aborted) {
      stats.end('cancelled');
      response.destroy();
      return;
    }
    const late = deadline.total.aborted;
    stats.end(late ? 'timeout' : 'error');
    const known = late
      ? (deadline.total.reason as HttpError)
      : context.closing.aborted
        ? shutDown()
        : toHttpError(error);
    if (stream === null) throw known;
    response.locals['code'] = known.code;
    const open = stream as EventStream;
    if (
      known.status >= 500 &&
      known.retryAfter === undefined &&
      !late &&
      !context.closing.aborted
    ) {
      context.log.error({ requestId: response.locals['requestId'], err: error }, 'stream failed');
    }
    await open.send('failed' in job.format ? job.format.failed(known) : known.body());
    open.end();
  } finally {
    stats.end('error');
    deadline.clear();
    // A client that stalls at the opening of its stream leaves events that nobody has begun to read.
    await running?.close().catch((error: unknown) => {
      context.log.error({ requestId: response.locals['requestId'], err: error }, 'run not closed');
    });
    release?.();
  }
}

/** How many texts a request asks for, after all of its prompts. */
function choicesOf({ runs }: Job): number {
  return runs.length * (runs[0].extra?.n ?? 1);
}

function echoesOf({ echo, runs }: Job, { tokenizer }: ModelContext): Echoes | null {
  return echo && new Echoes(echo, runs[0].extra?.n ?? 1, tokenizer);
}

async function whole(
  response: Response,
  running: Run,
  job: Job,
  context: ModelContext,
  stats: GenerationStats,
): Promise<void> {
  type Growing = { parts: string[]; tokens: SampledToken[]; reason: WholeChoice['reason'] };
  const growing = Array.from(
    { length: choicesOf(job) },
    (): Growing => ({ parts: [], tokens: [], reason: 'length' }),
  );
  const [first] = job.runs;
  const echoes = echoesOf(job, context);
  const seen = new SeenSpans();
  const sources = sourcesOf(job, context);
  for await (const event of running.events) {
    await stats.record(event);
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
  stats.end(choices[0]?.reason ?? 'length');
  const answer = job.format.fullResponse(choices, stats.usage);
  const lockstep = {
    ...(first.spans ? (running.spans() ?? seen.spans) : {}),
    ...(sources === null ? {} : { sources: sources.all }),
  };
  response.json({ ...answer, ...(Object.keys(lockstep).length === 0 ? {} : { lockstep }) });
}

function sourcesOf({ sources }: Job, { tokenizer, source }: ModelContext): Sources | null {
  return sources && new Sources(sources, tokenizer, source.contract);
}

async function streamed(
  stream: EventStream,
  { events }: Run,
  job: Job & { format: ResponseFormat },
  context: ModelContext,
  stats: GenerationStats,
): Promise<void> {
  const { format } = job;
  const send = (choices: readonly object[], more: object = {}) =>
    stream.send({
      ...format.chunk(choices),
      ...(job.includeUsage ? { usage: null } : {}),
      ...more,
    });
  const choices = choicesOf(job);
  const echoes = echoesOf(job, context);
  for (let choice = 0; choice < choices; choice++) {
    const opening = format.firstChoice(choice);
    if (opening !== null) await send([opening]);
  }
  const tracer = job.trace ? new Tracer(context) : null;
  const sources = sourcesOf(job, context);
  /** The `lockstep` field of a chunk, where it has one. */
  const shown = (): { lockstep?: object } => {
    const lockstep = { ...tracer?.take(), ...sources?.take() };
    return Object.keys(lockstep).length === 0 ? {} : { lockstep };
  };
  let open = choices;
  for await (const event of events) {
    const memory = await stats.record(event, tracer !== null);
    const { choice } = event;
    sources?.see(event);
    echoes?.see(event);
    const echoed =
      event.type === 'ran' ? null : echoes?.take(choice, job.runs[0].logprobs !== null);
    if (echoed) {
      const delta = format.textChoice(choice, echoed.text, echoed.tokens);
      if (delta !== null) await send([delta]);
    }
    if (event.type === 'ran') {
      tracer?.ran(event, memory);
      // While a long prompt runs, chunks without text report it; after that, the chunk of each token does.
      if (tracer !== null && event.prompt) await send([], shown());
    } else if (event.type === 'token') {
      const delta = format.textChoice(choice, event.text, [event]);
      const more = shown();
      if (delta !== null || more.lockstep !== undefined) {
        await send(delta === null ? [] : [delta], more);
      }
    } else {
      const delta = event.text === '' ? null : format.textChoice(choice, event.text, []);
      if (delta !== null) await send([delta]);
      open -= 1;
      if (open === 0) stats.end(event.reason);
      await send([format.finalChoice(choice, event.reason)], shown());
    }
  }
  if (job.includeUsage) await stream.send({ ...format.chunk([]), usage: stats.usage });
  await stream.send('[DONE]');
  stream.end();
}

/** A stream of events with types. */
async function told(
  stream: EventStream,
  { events }: Run,
  format: EventFormat,
  stats: GenerationStats,
): Promise<void> {
  const send = async (list: Iterable<object>) => {
    for (const event of list) await stream.send(event);
  };
  await send(format.begin());
  for await (const event of events) {
    await stats.record(event);
    if (event.type === 'token') await send(format.text(event.text));
    if (event.type !== 'end') continue;
    await send(format.end(event.text, event.reason));
    stats.end(event.reason);
    await stream.send(format.done(event.reason, stats.usage));
  }
  stream.end();
}

/** The segment spans that the steps of an engine showed. */
class SeenSpans {
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

  get spans(): SegmentSpans {
    const open: SegmentSpans['open'] =
      this.#position > this.#start ? [this.#start, this.#position] : null;
    return { segments: this.#segments, open };
  }
}

/** Gathers what has run since the last chunk. */
class Tracer {
  readonly #contract: Contract;
  readonly #show: TokenShow;
  #trace: Trace;

  constructor(context: ModelContext) {
    this.#contract = context.source.contract;
    this.#show = new TokenShow(context.tokenizer);
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
