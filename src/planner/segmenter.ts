// Segmenter: the plan of one sequence, token by token.
import { LockstepError } from '../errors.ts';
import { Gathered, type Outcome } from './gathered.ts';
import { PolicyHost } from './host.ts';
import type { PolicySource } from './source.ts';

const hosts = new WeakMap<PolicySource, PolicyHost>();

/** The host that all segmenters and plans of one source share. */
export function hostOf(source: PolicySource | PolicyHost): PolicyHost {
  if (source instanceof PolicyHost) return source;
  let host = hosts.get(source);
  if (host === undefined || host.stopped) {
    host = new PolicyHost(source);
    hosts.set(source, host);
  }
  return host;
}

interface SegmenterPush {
  readonly segmenter: Segmenter;
  readonly tokens: ArrayLike<number>;
}

const gathered = new WeakMap<PolicyHost, Gathered<SegmenterPush, number[]>>();

/** The plan of one sequence as its tokens come. */
export class Segmenter {
  readonly #host: PolicyHost;
  #handle: number | undefined;
  #position = 0;
  #lastCut = 0;

  /** @throws LS_POLICY_* where the policy cannot be loaded or started */
  constructor(source: PolicySource | PolicyHost) {
    this.#host = hostOf(source);
    this.#handle = this.#host.open();
  }

  /** A segmenter that continues from a snapshot of the same policy. */
  static restore(source: PolicySource | PolicyHost, snapshot: string): Segmenter {
    const segmenter = new Segmenter(source);
    segmenter.#host.free(segmenter.#opened);
    segmenter.#handle = segmenter.#host.restore(snapshot);
    const { position, length } = JSON.parse(snapshot) as { position: number; length: number };
    segmenter.#position = position;
    segmenter.#lastCut = position - length;
    return segmenter;
  }

  /** Push tokens of many sequences of one host in one call; cuts of each, in order. */
  static pushBatch(
    segmenters: readonly Segmenter[],
    tokens: readonly ArrayLike<number>[],
  ): number[][] {
    const [first] = segmenters;
    if (first === undefined) return [];
    if (
      segmenters.length !== tokens.length ||
      segmenters.some((one) => one.#host !== first.#host)
    ) {
      throw new LockstepError(
        'LS_PLAN_BATCH',
        `expected a token list for each segmenter of one policy, got ${segmenters.length} segmenters and ${tokens.length} lists`,
        { fix: 'Batch the segmenters of one contract, with a list for each.' },
      );
    }
    const cuts = first.#host.push(
      segmenters.map((one, i) => ({ handle: one.#opened, tokens: tokens[i] as ArrayLike<number> })),
    );
    segmenters.forEach((one, i) => {
      one.#position += (tokens[i] as ArrayLike<number>).length;
      one.#lastCut = cuts[i]?.at(-1) ?? one.#lastCut;
    });
    return cuts;
  }

  /** Take one token; true: the segment ends after it. */
  push(token: number): boolean {
    return this.pushMany([token]).length === 1;
  }

  /**
   * Take tokens; returns the cuts decided: numbers of tokens of the sequence before each (e_i).
   *
   * @throws LS_POLICY_*, LS_PLAN_TOKEN naming the policy, the token's index and id; the segmenter
   *   cannot continue then
   */
  pushMany(tokens: ArrayLike<number>): number[] {
    const [cuts] = Segmenter.pushBatch([this], [tokens]);
    return cuts as number[];
  }

  /**
   * As `pushMany`, together with what other sequences of the policy push in this turn of the event loop:
   * one call of the policy's engine for all of them.
   */
  pushSoon(tokens: ArrayLike<number>): Promise<number[]> {
    const host = this.#host;
    let pushes = gathered.get(host);
    if (pushes === undefined) {
      pushes = new Gathered((all) => Segmenter.#pushEach(host, all));
      gathered.set(host, pushes);
    }
    return pushes.add({ segmenter: this, tokens });
  }

  static #pushEach(host: PolicyHost, pushes: readonly SegmenterPush[]): Outcome<number[]>[] {
    const open = pushes.filter(({ segmenter }) => segmenter.#handle !== undefined);
    const outcomes = host.pushEach(
      open.map(({ segmenter, tokens }) => ({ handle: segmenter.#opened, tokens })),
    );
    open.forEach(({ segmenter, tokens }, i) => {
      const outcome = outcomes[i] as Outcome<number[]>;
      if ('error' in outcome) return;
      segmenter.#position += tokens.length;
      segmenter.#lastCut = outcome.value.at(-1) ?? segmenter.#lastCut;
    });
    // One that was closed meanwhile has no sequence any more.
    return pushes.map((push) => outcomes[open.indexOf(push)] ?? { error: closed() });
  }

  /** JSON from which `restore` continues exactly. */
  snapshot(): string {
    return this.#host.snapshot(this.#opened);
  }

  /** A copy of this segmenter, at the same position. */
  fork(): Segmenter {
    return Segmenter.restore(this.#host, this.snapshot());
  }

  /** Tokens seen. */
  get position(): number {
    return this.#position;
  }

  /** Tokens in the open segment. */
  get openLength(): number {
    return this.#position - this.#lastCut;
  }

  /** Free the sequence. Idempotent. */
  close(): void {
    if (this.#handle !== undefined) this.#host.free(this.#handle);
    this.#handle = undefined;
  }

  get #opened(): number {
    if (this.#handle !== undefined) return this.#handle;
    throw closed();
  }
}

function closed(): LockstepError {
  return new LockstepError('LS_PLAN_CLOSED', 'expected an open segmenter, got a closed one', {
    fix: 'Close a segmenter after its last use.',
  });
}
