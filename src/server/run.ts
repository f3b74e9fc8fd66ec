// One generation on the engine: a session of its own, freed however the generation ends.
import type { SessionMemory } from '../engines/engine.ts';
import { type GenerateEvent, type GenerateRequest, generate } from '../engines/generate.ts';
import { Sequence } from '../engines/sequence.ts';
import { Segmenter } from '../planner/index.ts';
import type { Workshop } from './answer.ts';

export type RunEvent = GenerateEvent;

/** What a client asked for. */
export interface RunRequest extends Omit<GenerateRequest, 'stopIds' | 'signal'> {
  /** Alternatives to report a token; null reports none. */
  logprobs: number | null;
  /** Someone looks at every step. */
  watched: boolean;
}

export interface Run {
  /** To be iterated once; the session is freed when that ends. */
  events: AsyncGenerator<RunEvent, void>;
  memory(): Promise<SessionMemory>;
}

/** A watched prompt runs in smaller steps, to be seen growing. */
const WATCHED_TOKENS = 128;

/** @throws what `Engine.open` and `Segmenter` throw */
export async function run(
  { watched, ...request }: RunRequest,
  shop: Workshop,
  signal: AbortSignal,
): Promise<Run> {
  const session = await shop.engine.open();
  try {
    const sequence = new Sequence(session, new Segmenter(shop.source));
    return { events: events(sequence), memory: () => session.memory() };
  } catch (error) {
    await session.close();
    throw error;
  }

  async function* events(sequence: Sequence): AsyncGenerator<RunEvent, void> {
    const { eos } = shop.tokenizer;
    const pieces = watched ? { pieceTokens: WATCHED_TOKENS } : {};
    // Closing drops a step that waits or runs, so that the engine is free for others at once.
    const leave = () => void session.close();
    signal.addEventListener('abort', leave, { once: true });
    try {
      yield* generate(
        sequence,
        { ...request, ...pieces, stopIds: eos, signal },
        shop.tokenizer.decoder(),
      );
    } finally {
      signal.removeEventListener('abort', leave);
      await sequence.close();
    }
  }
}
