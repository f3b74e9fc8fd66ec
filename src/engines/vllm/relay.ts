// A runner in front of one or more vLLMs: token ids go there, tokens come back, text is made here.
import { setImmediate } from 'node:timers/promises';
import type { Contract } from '../../contract/schema.ts';
import { LockstepError } from '../../errors.ts';
import { type PlannerSource, Segmenter } from '../../planner/index.ts';
import type { Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { EngineInfo } from '../engine.ts';
import { runMany } from '../many.ts';
import { pushInPieces } from '../planned.ts';
import type {
  EngineMetrics,
  Health,
  Run,
  RunEvent,
  Runner,
  RunRequest,
  SegmentSpans,
} from '../runner.ts';
import type { Sampled } from '../sampling.ts';
import {
  completionBody,
  isWhole,
  readTokens,
  readWhole,
  type TokenChunk,
  type WholeAnswer,
} from './completions-stream.ts';
import { metricsOf } from './metrics.ts';
import type { Replica } from './replica.ts';
import { prefixKeys, Router } from './route.ts';
import { ChoiceText } from './text.ts';

export interface RelayParts {
  info: EngineInfo;
  source: PlannerSource;
  tokenizer: Tokenizer;
  replicas: readonly Replica[];
  /** Why no replica can be ready any more; null while one may. */
  failed(): Error | null;
  /** What the replicas are doing while none is ready, in a word. */
  status(): string;
  close(): Promise<void>;
}

/** Prompts of one request that vLLM gets at once: its own scheduler batches them. */
const MAX_CONCURRENT_RUNS = 64;

interface Opened {
  replica: Replica;
  stream: AsyncIterable<Uint8Array>;
  /** The replica does not run it any more. Idempotent. */
  end(): void;
}

/** Where a prompt is cut, and the segmenter after its last token. */
interface Planned {
  cuts: readonly number[];
  segmenter: Segmenter;
}

/** One request on its way. */
interface Asking {
  open(): Promise<Opened>;
  chunks(first: Opened): AsyncGenerator<TokenChunk>;
  /** Known once the chunks have begun. */
  spans(): SegmentSpans | null;
  scores(): readonly (Sampled | null)[] | null;
}

export class Relay implements Runner {
  readonly stepped = false;
  readonly maxConcurrentRuns = MAX_CONCURRENT_RUNS;
  readonly info: EngineInfo;
  readonly contract: Contract;
  readonly router: Router<Replica>;
  readonly #parts: RelayParts;

  constructor(parts: RelayParts) {
    this.info = parts.info;
    this.contract = parts.source.contract;
    this.router = new Router(parts.replicas);
    this.#parts = parts;
  }

  get sessions(): number {
    return this.#parts.replicas.reduce((sum, replica) => sum + replica.running, 0);
  }

  get maxTokens(): number | null {
    const limits = this.#parts.replicas.flatMap((replica) => replica.maxTokens ?? []);
    return limits.length === 0 ? null : Math.min(...limits);
  }

  health(): Health {
    const { replicas } = this.#parts;
    if (replicas.some((replica) => replica.ready)) return { ready: true, status: 'ready' };
    const failed = this.#parts.failed();
    const error = failed ?? replicas[0]?.notReadyReason;
    const said = this.#parts.status();
    // Its connections broke, and its supervisor has not noticed yet that it ended.
    const status = said === 'ready' ? 'engine unreachable' : said;
    return {
      ready: false,
      status: failed === null ? status : 'engine lost',
      ...(error === undefined ? {} : { error }),
    };
  }

  async run(request: RunRequest, signal: AbortSignal): Promise<Run> {
    const asked = { ...request, prompt: Int32Array.from(request.prompt) };
    const { cuts, segmenter, end } = await this.#plan(asked.prompt, signal);
    // A whole answer has a length, and cannot lose anything unseen.
    if (isWhole(asked)) return this.#run(asked, { cuts, segmenter }, signal, true);
    const texts = textsOf(asked);
    const run = (text: RunRequest, signal: AbortSignal) => {
      const first = text === texts[0];
      // Another text may begin when the first one has ended already.
      const own = first ? segmenter : Segmenter.restore(this.#parts.source, end);
      const one = { ...text, prompt: asked.prompt };
      return this.#run(one, { cuts, segmenter: own }, signal, first);
    };
    return runMany({ run, maxConcurrentRuns: texts.length }, texts, signal);
  }

  /** `end`: a snapshot of the segmenter. */
  async #plan(prompt: Int32Array, signal: AbortSignal): Promise<Planned & { end: string }> {
    const segmenter = new Segmenter(this.#parts.source);
    try {
      const cuts = await pushInPieces(segmenter, prompt, signal);
      return { cuts, segmenter, end: segmenter.snapshot() };
    } catch (error) {
      segmenter.close();
      throw error;
    }
  }

  /**
   * @param planned its segmenter is closed with the run
   * @param first tells of its prompt as well
   */
  async #run(
    asked: RunRequest & { prompt: Int32Array },
    { cuts, segmenter }: Planned,
    signal: AbortSignal,
    first: boolean,
  ): Promise<Run> {
    // Ends the request in vLLM too, where a text stops before vLLM has noticed.
    const leave = new AbortController();
    try {
      const asking = this.#ask(asked, cuts, AbortSignal.any([signal, leave.signal]));
      // vLLM has judged the request once it begins to answer: what it refuses is refused here at once.
      const opened = await asking.open();
      const told = first ? cuts : null;
      const events = this.#events(asked, segmenter, told, asking, opened, leave);
      return {
        events,
        memory: async () => null,
        spans: asking.spans,
        async close() {
          leave.abort();
          await events.return();
          // Events that never began have nothing to leave.
          segmenter.close();
          opened.end();
        },
      };
    } catch (error) {
      leave.abort();
      segmenter.close();
      throw error;
    }
  }

  /** The same vLLMs with an adapter over the model. Closing it closes nothing: they are this relay's. */
  adapter(name: string): Runner {
    const relay = this;
    return {
      info: relay.info,
      contract: relay.contract,
      stepped: relay.stepped,
      maxConcurrentRuns: relay.maxConcurrentRuns,
      get sessions() {
        return relay.sessions;
      },
      get maxTokens() {
        return relay.maxTokens;
      },
      health: () => relay.health(),
      run: (request, signal) => relay.run({ ...request, adapter: name }, signal),
      close: async () => {},
    };
  }

  metrics(): Promise<EngineMetrics> {
    return metricsOf(this.#parts.replicas);
  }

  async close(): Promise<void> {
    await this.#parts.close();
  }

  async *#events(
    request: RunRequest & { prompt: Int32Array },
    segmenter: Segmenter,
    cuts: readonly number[] | null,
    { chunks, scores }: Asking,
    first: Opened,
    leave: AbortController,
  ): AsyncGenerator<RunEvent, void> {
    const count = request.extra?.n ?? 1;
    const texts: ChoiceText[] = [];
    try {
      for await (const { choice, tokens, reason } of chunks(first)) {
        if (texts.length === 0) {
          if (cuts !== null) yield* promptRan(request.prompt, cuts, scores());
          for (let i = 0; i < count; i++) {
            const mine = i === count - 1 ? segmenter : segmenter.fork();
            texts.push(new ChoiceText(i, mine, this.#parts, request));
          }
        }
        const text = texts[choice] as ChoiceText;
        yield* text.take(tokens);
        if (reason !== null) yield* text.end(reason);
        // Where vLLM has said so too, only `[DONE]` follows: reading it keeps the connection.
        if (reason === null && texts.every((one) => one.ended)) return;
      }
    } finally {
      leave.abort();
      for (const text of texts) text.close();
      segmenter.close();
    }
  }

  /** A request to whichever replica takes it; another one is asked only before the first token. */
  #ask(
    request: RunRequest & { prompt: Int32Array },
    cuts: readonly number[],
    signal: AbortSignal,
  ): Asking {
    const keys = prefixKeys(request.prompt, cuts, request.adapter);
    const body = completionBody(request, this.contract.tokenizer.ends);
    const order = this.router.order(keys);
    // An idle connection may close just as it is used: one replica gets a second chance too.
    const left = order.length === 1 ? [...order, ...order] : order;
    let last: unknown = this.health().error ?? noReplica();
    /** Throws what no other replica can fix. */
    const settle = (error: unknown, replica: Replica, begun = false): void => {
      last = error;
      if (signal.aborted || !isBroken(error)) throw error;
      if (error.code === 'LS_VLLM_UNREACHABLE' && !left.includes(replica))
        replica.markSuspect(error);
      if (begun) throw error;
    };
    const open = async (): Promise<Opened> => {
      for (let replica = left.shift(); replica !== undefined; replica = left.shift()) {
        const end = begun(replica);
        this.router.took(keys, replica);
        try {
          return { replica, stream: await replica.complete(body, signal), end };
        } catch (error) {
          end();
          settle(error, replica);
          // Let the event loop read which of its other idle connections have closed.
          await setImmediate();
        }
      }
      throw last;
    };
    const { vocabulary } = this.info;
    const { prompt } = request;
    let whole: WholeAnswer | null = null;
    async function* chunks(first: Opened): AsyncGenerator<TokenChunk> {
      for (let answer = first; ; answer = await open()) {
        let begun = false;
        try {
          if (isWhole(request)) {
            whole = await readWhole(answer.stream, request, vocabulary);
            yield* whole.chunks;
            return;
          }
          for await (const chunk of readTokens(answer.stream, vocabulary, prompt)) {
            begun = true;
            yield chunk;
          }
          return;
        } catch (error) {
          settle(error, answer.replica, begun);
        } finally {
          answer.end();
        }
      }
    }
    return {
      open,
      chunks,
      spans: () => whole?.spans ?? null,
      scores: () => whole?.scores ?? null,
    };
  }
}

/** A replica runs one more, until what this gives is called. */
function begun(replica: Replica): () => void {
  replica.running += 1;
  let running = true;
  return () => {
    if (running) replica.running -= 1;
    running = false;
  };
}

/** The connection broke, or there was none. */
function isBroken(error: unknown): error is LockstepError {
  return (
    error instanceof LockstepError &&
    (error.code === 'LS_VLLM_UNREACHABLE' || error.code === 'LS_VLLM_DIED')
  );
}

function noReplica(): LockstepError {
  return new LockstepError('LS_VLLM_NOT_READY', 'expected a ready vLLM, got none', {
    fix: 'Wait until /health/ready says 200.',
  });
}

/**
 * A request of `n` texts as requests of one text each, with the seeds that vLLM itself gives them
 * (v1/engine/parallel_sampling.py).
 */
function textsOf(request: RunRequest): RunRequest[] {
  const { extra, seed } = request;
  const n = extra?.n ?? 1;
  if (n === 1) return [request];
  return Array.from({ length: n }, (_, i) => ({
    ...request,
    extra: { ...extra, n: 1 },
    ...(seed == null ? {} : { seed: seed + i }),
  }));
}

/** The prompt as it ran: one event a segment. */
function* promptRan(
  prompt: Int32Array,
  cuts: readonly number[],
  scores: readonly (Sampled | null)[] | null,
): Generator<RunEvent> {
  let from = 0;
  for (const end of cuts.at(-1) === prompt.length ? cuts : [...cuts, prompt.length]) {
    yield {
      choice: 0,
      type: 'ran',
      prompt: true,
      from,
      tokens: prompt.slice(from, end),
      ...(scores === null ? {} : { scores: scores.slice(from, end) }),
      boundary: cuts.includes(end) ? { at: end, retrieved: null } : null,
    };
    from = end;
  }
}
