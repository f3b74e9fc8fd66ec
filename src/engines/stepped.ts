// A runner over an engine that is stepped from here: one session a run, freed however it ends.
import { LockstepError } from '../errors.ts';
import { type PlannerSource, Segmenter } from '../planner/index.ts';
import type { Tokenizer } from '../planner/tokenizer.ts';
import type { Engine } from './engine.ts';
import { generate } from './generate.ts';
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
  readonly extended = false;
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
        const sequence = new Sequence(session, new Segmenter(this.#source));
        return {
          events: this.#events(sequence, request, signal),
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
    sequence: Sequence,
    { watched, keep, ...request }: RunRequest,
    signal: AbortSignal,
  ): AsyncGenerator<RunEvent, void> {
    const pieces = watched ? { pieceTokens: WATCHED_TOKENS } : {};
    // Closing drops a step that waits or runs, so that the engine is free for others at once.
    const leave = () => void sequence.session.close();
    signal.addEventListener('abort', leave, { once: true });
    try {
      const asked = {
        ...request,
        ...pieces,
        stopIds: this.#source.contract.tokenizer.ends,
        signal,
      };
      const decoder = this.#tokenizer.decoder(keep === undefined ? {} : { keep });
      for await (const event of generate(sequence, asked, decoder)) {
        yield { choice: 0, ...event };
      }
    } catch (error) {
      this.#notice(error);
      throw error;
    } finally {
      signal.removeEventListener('abort', leave);
      await sequence.close();
    }
  }

  #notice(error: unknown): void {
    if (isEngineLost(error)) this.#lost ??= error as LockstepError;
  }
}
