// Running prompts with the prefix cache: from the longest cached state on, and what is cached of the rest.
import type { Engine, EngineSession } from './engine.ts';
import { pushInPieces } from './planned.ts';
import { type BoundaryChain, type PrefixCache, PrefixHash } from './prefix-cache.ts';
import { type BoundarySource, Sequence, type StepOutput } from './sequence.ts';

/**
 * Tokens of one step of a prompt; shorter where a segment ends. Steps that follow from the tokens alone
 * round alike whenever a prompt runs: what was cached is what would be computed.
 */
export const STEP_TOKENS = 128;

/** A part of a prompt that was cached. */
export type CachedPart = Pick<StepOutput, 'from' | 'tokens' | 'boundary'>;

/** A sequence that continues from a cached state, or from its beginning. */
export class CachedSequence {
  readonly sequence: Sequence;
  /** Tokens that need not run. */
  readonly length: number;
  readonly #cache: PrefixCache | null;
  readonly #tokens: Int32Array;
  readonly #path = new PrefixHash();
  #boundaries: BoundaryChain | null;

  private constructor(
    sequence: Sequence,
    tokens: Int32Array,
    cache: PrefixCache | null,
    boundaries: BoundaryChain | null,
  ) {
    this.sequence = sequence;
    this.length = sequence.position;
    this.#cache = cache;
    this.#tokens = tokens;
    this.#boundaries = boundaries;
    if (cache !== null) this.#path.push(tokens.subarray(0, this.length));
  }

  /**
   * @param tokens the prompt
   * @param most tokens of it that may come from the cache
   * @param segmenter says where the tokens are cut; it has seen none yet; closed with the sequence, or if opening fails
   * @param silent no request waits for it
   * @throws LS_ENGINE_*, LS_POLICY_*
   */
  static async open(
    engine: Engine,
    cache: PrefixCache | null,
    tokens: Int32Array,
    most: number,
    segmenter: BoundarySource,
    silent = false,
  ): Promise<CachedSequence> {
    const found = most > 0 ? (cache?.find(tokens, most, silent) ?? null) : null;
    let session: EngineSession | undefined;
    try {
      session = await (found ?? engine).open();
      const length = found?.length ?? 0;
      await pushInPieces(segmenter, tokens.subarray(0, length));
      const sequence = new Sequence(session, segmenter, length);
      return new CachedSequence(sequence, tokens, cache, found?.boundaries ?? null);
    } catch (error) {
      segmenter.close();
      await session?.close();
      throw error;
    }
  }

  /** What need not run, segment by segment. */
  *cachedParts(): Generator<CachedPart> {
    const chain: BoundaryChain[] = [];
    for (let one = this.#boundaries; one !== null; one = one.before) chain.push(one);
    let from = 0;
    for (const { at, retrieved } of chain.reverse()) {
      yield { from, tokens: this.#tokens.slice(from, at), boundary: { at, retrieved } };
      from = at;
    }
    if (from >= this.length) return;
    yield { from, tokens: this.#tokens.slice(from, this.length), boundary: null };
  }

  /** These tokens of the prompt have run, and nothing after them: cache the state where that is of use. */
  async cacheAfter({ tokens, boundary }: Pick<StepOutput, 'tokens' | 'boundary'>): Promise<void> {
    if (this.#cache === null) return;
    this.#path.push(tokens);
    if (boundary !== null)
      this.#boundaries = { ...boundary, before: this.#boundaries, references: 0 };
    const rest = this.#tokens.length - this.#path.length;
    // Of an open segment the last whole step is enough: earlier ones lead to it.
    const last = tokens.length === STEP_TOKENS && rest < STEP_TOKENS;
    if (boundary === null && !last) return;
    await this.#cache.store(this.sequence.session, this.#path, this.#boundaries);
  }
}
