// Running prompts with a memory: from the longest remembered state on, and what is remembered of the rest.
import type { Engine, EngineSession } from './engine.ts';
import { PrefixHash, type PrefixMemory, type Trail } from './memory.ts';
import { pushInPieces } from './planned.ts';
import { type BoundarySource, Sequence, type StepOutput } from './sequence.ts';

/**
 * Tokens of one step of a prompt; shorter where a segment ends. Steps that follow from the tokens alone
 * round alike whenever a prompt runs: what was remembered is what would be computed.
 */
export const STEP_TOKENS = 128;

/** A part of a prompt that was remembered. */
export type Recalled = Pick<StepOutput, 'from' | 'tokens' | 'boundary'>;

/** A sequence that continues from a cached state, or from its beginning. */
export class RememberedSequence {
  readonly sequence: Sequence;
  /** Tokens that need not run. */
  readonly length: number;
  readonly #memory: PrefixMemory | null;
  readonly #tokens: Int32Array;
  readonly #path = new PrefixHash();
  #trail: Trail | null;

  private constructor(
    sequence: Sequence,
    tokens: Int32Array,
    memory: PrefixMemory | null,
    trail: Trail | null,
  ) {
    this.sequence = sequence;
    this.length = sequence.position;
    this.#memory = memory;
    this.#tokens = tokens;
    this.#trail = trail;
    if (memory !== null) this.#path.push(tokens.subarray(0, this.length));
  }

  /**
   * @param tokens the prompt
   * @param most tokens of it that may be recalled
   * @param segmenter says where the tokens are cut; it has seen none yet; closed with the sequence, or if opening fails
   * @param silent no request waits for it
   * @throws LS_ENGINE_*, LS_POLICY_*
   */
  static async open(
    engine: Engine,
    memory: PrefixMemory | null,
    tokens: Int32Array,
    most: number,
    segmenter: BoundarySource,
    silent = false,
  ): Promise<RememberedSequence> {
    const found = most > 0 ? (memory?.find(tokens, most, silent) ?? null) : null;
    let session: EngineSession | undefined;
    try {
      session = await (found ?? engine).open();
      const length = found?.length ?? 0;
      await pushInPieces(segmenter, tokens.subarray(0, length));
      const sequence = new Sequence(session, segmenter, length);
      return new RememberedSequence(sequence, tokens, memory, found?.trail ?? null);
    } catch (error) {
      segmenter.close();
      await session?.close();
      throw error;
    }
  }

  /** What need not run, segment by segment. */
  *recalled(): Generator<Recalled> {
    const trail: Trail[] = [];
    for (let one = this.#trail; one !== null; one = one.before) trail.push(one);
    let from = 0;
    for (const { at, retrieved } of trail.reverse()) {
      yield { from, tokens: this.#tokens.slice(from, at), boundary: { at, retrieved } };
      from = at;
    }
    if (from >= this.length) return;
    yield { from, tokens: this.#tokens.slice(from, this.length), boundary: null };
  }

  /** These tokens of the prompt have run, and nothing after them: remember where that is of use. */
  async note({ tokens, boundary }: Pick<StepOutput, 'tokens' | 'boundary'>): Promise<void> {
    if (this.#memory === null) return;
    this.#path.push(tokens);
    if (boundary !== null) this.#trail = { ...boundary, before: this.#trail, holders: 0 };
    const rest = this.#tokens.length - this.#path.length;
    // Of an open segment the last whole step is enough: earlier ones lead to it.
    const last = tokens.length === STEP_TOKENS && rest < STEP_TOKENS;
    if (boundary === null && !last) return;
    await this.#memory.remember(this.sequence.session, this.#path, this.#trail);
  }
}
