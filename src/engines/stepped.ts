// A runner over an engine that is stepped from here: one session a run, freed however it ends.
import type { Contract } from '../contract/schema.ts';
import { LockstepError } from '../errors.ts';
import { type PlannerSource, Segmenter } from '../planner/index.ts';
import type { Tokenizer } from '../planner/tokenizer.ts';
import type { Engine } from './engine.ts';
import { runAnswer, runPrompt } from './generate.ts';
import type { Health, Run, RunEvent, Runner, RunRequest } from './runner.ts';
import { Sequence } from './sequence.ts';

/** A watched prompt runs in smaller steps, to be seen growing. */
const WATCHED_TOKENS = 128;

const LOST = ['LS_ENGINE_CRASHED', 'LS_ENGINE_CLOSED', 'LS_PYTHON_DIED', 'LS_PYTHON_CLOSED'];

/** The engine itself is gone, so that no later run can succeed either. */
export function isEngineLost(error: unknown): boolean {
  return error instanceof LockstepError && LOST.includes(error.code);
}

/** @throws LS_SERVE_DIGEST when engine and contract differ */
export function steppedRunner(engine: Engine, tokenizer: Tokenizer, source: PlannerSource): Runner {
  const ours = source.contract;
  if (engine.contract.digest !== ours.digest) {
    throw new LockstepError(
      'LS_SERVE_DIGEST',
      `expected an engine of contract ${ours.digest}, got one of ${engine.contract.digest}`,
      { mend: 'Export the checkpoint again: lockstep export DIR' },
    );
  }
  return new SteppedRunner(engine, tokenizer, source);
}

class SteppedRunner implements Runner {
  readonly holdsForms = false;
  readonly together = 1;
  readonly maxTokens = null;
  readonly #engine: Engine;
  readonly #tokenizer: Tokenizer;
  readonly #source: PlannerSource;
  #lost: LockstepError | undefined;

  constructor(engine: Engine, tokenizer: Tokenizer, source: PlannerSource) {
    this.#engine = engine;
    this.#tokenizer = tokenizer;
    this.#source = source;
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

  health(): Health {
    if (this.#lost === undefined) return { ready: true, status: 'ready' };
    return { ready: false, status: 'engine lost', error: this.#lost };
  }

  async run(request: RunRequest, signal: AbortSignal): Promise<Run> {
    try {
      const session = await this.#engine.open();
      try {
        const segmenter = new Segmenter(this.#source);
        const sequence = new Sequence(session, segmenter);
        return {
          events: this.#events({ sequence, segmenter }, request, signal),
          memory: () => session.memory(),
          // Whoever reads the events has seen every cut.
          layout: () => null,
        };
      } catch (error) {
        await session.close();
        throw error;
      }
    } catch (error) {
      this.#notice(error);
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#engine.close();
  }

  async *#events(
    { sequence, segmenter }: { sequence: Sequence; segmenter: Segmenter },
    request: RunRequest,
    signal: AbortSignal,
  ): AsyncGenerator<RunEvent, void> {
    const asked = { ...askedOf(request, this.#source.contract), signal };
    const { keep, extra = {} } = request;
    const decoder = () => this.#tokenizer.decoder(keep === undefined ? {} : { keep });
    const open = new Set([sequence]);
    // Closing drops a step that waits or runs, so that the engine is free for others at once.
    const leave = () => {
      for (const one of open) void one.session.close();
    };
    signal.addEventListener('abort', leave, { once: true });
    try {
      const prompt = runPrompt(sequence, request.prompt, asked);
      let ran = await prompt.next();
      for (; !ran.done; ran = await prompt.next()) yield { choice: 0, ...ran.value };
      const logits = ran.value;
      const last = (extra.n ?? 1) - 1;
      for (let choice = 0; choice <= last; choice++) {
        // The last one needs what the prompt left no longer.
        const mine = choice === last ? sequence : await forkOf(sequence, segmenter);
        open.add(mine);
        signal.throwIfAborted();
        const seed = request.seed == null ? null : request.seed + choice;
        for await (const event of runAnswer(mine, logits, { ...asked, seed }, decoder())) {
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
      await Promise.all([...open].map((one) => one.close()));
    }
  }

  #notice(error: unknown): void {
    if (isEngineLost(error)) this.#lost ??= error as LockstepError;
  }
}

/** A run's request as generation takes it. */
function askedOf({ keep: _, watched, extra = {}, ...request }: RunRequest, contract: Contract) {
  return {
    ...request,
    ...(watched ? { pieceTokens: WATCHED_TOKENS } : {}),
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

/** Another sequence that stands where this one does. */
async function forkOf(sequence: Sequence, segmenter: Segmenter): Promise<Sequence> {
  const session = await sequence.session.fork();
  return new Sequence(session, segmenter.fork(), sequence.position);
}
