// A runner over an engine that is stepped from here: one session a run, freed however it ends.
import type { Contract } from '../contract/schema.ts';
import { LockstepError } from '../errors.ts';
import { type PlannerSource, Segmenter } from '../planner/index.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { CacheWarmer } from './cache-warmer.ts';
import { CachedSequence, STEP_TOKENS } from './cached-sequence.ts';
import type { Engine } from './engine.ts';
import { runAnswer, runPrompt } from './generate.ts';
import type { GrammarMatcher } from './logits-processor.ts';
import { PrefixCache } from './prefix-cache.ts';
import type { Health, PrefixCacheStats, Run, RunEvent, Runner, RunRequest } from './runner.ts';
import { Sequence } from './sequence.ts';
import { StepScheduler } from './step-scheduler.ts';
import { GrammarCompiler, type ResponseFormat } from './structured/grammar-compiler.ts';

const LOST = ['LS_ENGINE_CRASHED', 'LS_ENGINE_CLOSED', 'LS_PYTHON_DIED', 'LS_PYTHON_CLOSED'];

/** The engine itself is gone, so that no later run can succeed either. */
export function isEngineLost(error: unknown): boolean {
  return error instanceof LockstepError && LOST.includes(error.code);
}

export interface SteppedOptions {
  /** Most bytes of the prefix cache; 0, the default, has none. */
  cacheBytes?: number;
}

/** @throws LS_SERVE_DIGEST when engine and contract differ */
export function steppedRunner(
  engine: Engine,
  tokenizer: Tokenizer,
  source: PlannerSource,
  { cacheBytes = 0 }: SteppedOptions = {},
): Runner {
  const ours = source.contract;
  if (engine.contract.digest !== ours.digest) {
    throw new LockstepError(
      'LS_SERVE_DIGEST',
      `expected an engine of contract ${ours.digest}, got one of ${engine.contract.digest}`,
      { fix: 'Export the checkpoint again: lockstep export DIR' },
    );
  }
  const caches = cacheBytes > 0 && engine.snapshotBytes !== undefined;
  const prefixCache = caches ? new PrefixCache(engine, cacheBytes) : null;
  return new LocalRunner(engine, tokenizer, source, prefixCache);
}

class LocalRunner implements Runner {
  readonly stepped = true;
  readonly maxConcurrentRuns = 1;
  readonly maxTokens = null;
  readonly #engine: Engine;
  readonly #tokenizer: Tokenizer;
  readonly #source: PlannerSource;
  readonly #prefixCache: PrefixCache | null;
  readonly #warmer: CacheWarmer | null;
  readonly #grammars: GrammarCompiler;
  readonly #scheduler = new StepScheduler();
  #running = 0;
  #lost: LockstepError | undefined;

  constructor(
    engine: Engine,
    tokenizer: Tokenizer,
    source: PlannerSource,
    prefixCache: PrefixCache | null,
  ) {
    this.#engine = engine;
    this.#tokenizer = tokenizer;
    this.#source = source;
    this.#prefixCache = prefixCache;
    this.#grammars = new GrammarCompiler(tokenizer, source.contract.tokenizer.ends);
    this.#warmer = prefixCache && new CacheWarmer(engine, source, prefixCache);
    // It may end while nothing runs on it.
    void engine.lost?.then((error) => this.#notice(error));
  }

  get info() {
    return this.#engine.info;
  }

  get contract() {
    return this.#engine.contract;
  }

  get sessions(): number {
    return this.#engine.sessions;
  }

  get prefixCache(): PrefixCacheStats | undefined {
    return this.#prefixCache ?? undefined;
  }

  health(): Health {
    if (this.#lost === undefined) return { ready: true, status: 'ready' };
    return { ready: false, status: 'engine lost', error: this.#lost };
  }

  async run(request: RunRequest, signal: AbortSignal): Promise<Run> {
    const prompt = Int32Array.from(request.prompt);
    const grammar = this.#grammarOf(request);
    if (!request.background) await this.#warmer?.yieldTo(prompt, signal);
    // The last token runs in any case: its logits are wanted. Of scored prompts, those of all are.
    const most = request.scored ? 0 : prompt.length - 1;
    try {
      const segmenter = new Segmenter(this.#source);
      const cached = await CachedSequence.open(
        this.#engine,
        this.#prefixCache,
        prompt,
        most,
        segmenter,
      );
      const events = this.#events(cached, segmenter, { ...request, prompt, grammar }, signal);
      return {
        events,
        memory: () => cached.sequence.session.memory(),
        // The events already contain every cut.
        spans: () => null,
        async close() {
          await events.return();
          // Events that never began have nothing to leave.
          await cached.sequence.close();
        },
      };
    } catch (error) {
      this.#notice(error);
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#warmer?.close();
    await this.#prefixCache?.close();
    await this.#engine.close();
  }

  async *#events(
    cached: CachedSequence,
    segmenter: Segmenter,
    request: RunRequest & { prompt: Int32Array; grammar: (() => GrammarMatcher) | null },
    signal: AbortSignal,
  ): AsyncGenerator<RunEvent, void> {
    const { sequence } = cached;
    const { prompt, keepSpecialTokens: keep, grammar, extra = {} } = request;
    const { background = false } = request;
    const scheduler = background ? this.#scheduler.background : this.#scheduler;
    const options = { ...generateOptions(request, this.#source.contract), signal, scheduler };
    const decoder = () => this.#tokenizer.decoder(keep === undefined ? {} : { keep });
    const open = new Set([sequence]);
    // Closing drops a step that waits or runs, so that the engine is free for others at once.
    const leave = () => {
      for (const one of open) void one.session.close();
    };
    signal.addEventListener('abort', leave, { once: true });
    const closeSequence = background ? () => {} : this.#scheduler.openSequence();
    if (!background) this.#running += 1;
    let written = () => {};
    /** The last choice, once it has ended. */
    let answer: number[] | null = null;
    try {
      for (const part of cached.cachedParts()) {
        yield { choice: 0, type: 'ran', prompt: true, cached: true, ...part };
      }
      const running = runPrompt(sequence, prompt.subarray(cached.length), options);
      let ran = await running.next();
      for (; !ran.done; ran = await running.next()) {
        await cached.cacheAfter(ran.value);
        yield { choice: 0, ...ran.value };
      }
      const logits = ran.value;
      const last = (extra.n ?? 1) - 1;
      if (!background) written = this.#scheduler.beginAnswer();
      for (let choice = 0; choice <= last; choice++) {
        // The last one needs what the prompt left no longer.
        const mine = choice === last ? sequence : await forkOf(sequence, segmenter);
        open.add(mine);
        signal.throwIfAborted();
        const seed = request.seed == null ? null : request.seed + choice;
        const tokens: number[] = [];
        const own = { ...options, seed, grammar: grammar?.() };
        for await (const event of runAnswer(mine, logits, own, decoder())) {
          if (event.type === 'token') tokens.push(event.id);
          if (event.type === 'end') answer = tokens;
          yield { choice, ...event };
        }
        if (mine === sequence) continue;
        await mine.close();
        open.delete(mine);
      }
    } catch (error) {
      this.#notice(error);
      throw error;
    } finally {
      signal.removeEventListener('abort', leave);
      written();
      await Promise.all([...open].map((one) => one.close()));
      closeSequence();
      if (!background) this.#running -= 1;
      if (request.expectsNextTurn && !background && answer !== null && this.#running === 0) {
        const turn = new Int32Array(prompt.length + answer.length);
        turn.set(prompt);
        turn.set(answer, prompt.length);
        this.#warmer?.warm(turn);
      }
    }
  }

  #grammarOf({ extra = {} }: RunRequest): (() => GrammarMatcher) | null {
    const { response_format: format, ignore_eos, min_tokens = 0 } = extra;
    if (format === undefined) return null;
    if (!ignore_eos && min_tokens === 0) return this.#grammars.compile(format as ResponseFormat);
    const option = ignore_eos ? 'ignore_eos' : 'min_tokens';
    throw new LockstepError(
      'LS_FORM_OPTIONS',
      `${option} cannot be combined with structured output: the JSON may end earlier`,
      { fix: `Leave out ${option}, or ask for plain text.` },
    );
  }

  #notice(error: unknown): void {
    if (isEngineLost(error)) this.#lost ??= error as LockstepError;
  }
}

/** A run's request as generation takes it. */
function generateOptions(
  { keepSpecialTokens: _, extra = {}, ...request }: RunRequest,
  contract: Contract,
) {
  return {
    ...request,
    pieceTokens: STEP_TOKENS,
    stopIds: extra.ignore_eos ? [] : contract.tokenizer.ends,
    topK: extra.top_k,
    minP: extra.min_p,
    bias: extra.logit_bias,
    minTokens: extra.min_tokens,
    repetitionPenalty: extra.repetition_penalty,
    frequencyPenalty: extra.frequency_penalty,
    presencePenalty: extra.presence_penalty,
  };
}

/** A copy of this sequence, at the same position. */
async function forkOf(sequence: Sequence, segmenter: Segmenter): Promise<Sequence> {
  // The segmenter first: the policy may refuse it, and nobody would close a session made before.
  const own = segmenter.fork();
  try {
    return new Sequence(await sequence.session.fork(), own, sequence.position);
  } catch (error) {
    own.close();
    throw error;
  }
}
