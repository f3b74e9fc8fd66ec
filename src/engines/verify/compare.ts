// One engine against the trainer: token by token, every position, the first place where they part.
import { failingMargin, greedyMargin, type Limits } from './limits.ts';
import type { TrainerRun } from './trainer.ts';

/** Where an engine and the trainer part. */
export interface Divergence {
  kind: 'boundary' | 'retrieval' | 'logp' | 'greedy';
  /** Position of the token that was fed (from 0); for boundaries the cut e_i. */
  position: number;
  /** The token that the two numbers are about. */
  token: number;
  text: string;
  trainer: string | number;
  engine: string | number;
}

/** A row of the verdict; the first seven fields are the stable part. */
export interface EngineReport {
  engine: string;
  tokens: number;
  boundaryMismatches: number;
  retrievalMismatches: number;
  greedyMismatches: number;
  maxAbsDlogp: number;
  meanAbsDlogp: number;
  precision: string;
  tolerance: number;
  /** What `tolerance` limits: `maxAbsDlogp` or `meanAbsDlogp`. */
  limited: 'largest' | 'mean';
  /** Share of |q| |k| below which a deciding gap passes; null: any passes. */
  gapBound: number | null;
  /** The largest gap seen, in the same unit; the largest number where no near-tie explains it. */
  largestGap: number;
  /** Retrieval mismatches within the bound: (near-)ties that rounding in the engine decides differently. */
  nearTies: number;
  /** Retrieval mismatches whose gap is above the bound. */
  unexplainedRetrievals: number;
  /** Where the largest |dlogp| is. */
  worst: Divergence | null;
  firstDivergence: Divergence | null;
  ok: boolean;
}

/** Text of a token, for messages. */
export type TokenText = (token: number) => string;

/** Takes an engine's answers in order of position and keeps the counts. */
export class Comparison {
  readonly #trainer: TrainerRun;
  readonly #limits: Limits;
  readonly #text: TokenText;
  #values = 0;
  #sum = 0;
  #max = 0;
  #greedy = 0;
  #failingGreedy = 0;
  #boundaries = 0;
  #retrievals = 0;
  #unexplained = 0;
  #largestGap = 0;
  #positions = 0;
  #worst: Divergence | null = null;
  #first: Divergence | null = null;

  constructor(trainer: TrainerRun, limits: Limits, text: TokenText) {
    this.#trainer = trainer;
    this.#limits = limits;
    this.#text = text;
  }

  /** The engine's planner decided at e = position + 1. */
  boundary(position: number, engine: boolean, trainer: boolean): void {
    if (engine === trainer) return;
    this.#boundaries += 1;
    const cut = (yes: boolean): string => (yes ? 'cut' : 'no cut');
    this.#note({
      kind: 'boundary',
      ...this.#at(position, this.#trainer.ids[position] as number),
      trainer: cut(trainer),
      engine: cut(engine),
    });
  }

  /** The engine retrieved otherwise at boundary `at`; `gap` in units of |q| |k|. */
  retrieval(at: number, layer: number, head: number, gap: number, parts: [string, string]): void {
    this.#retrievals += 1;
    if (gap > this.#largestGap) this.#largestGap = finite(gap);
    if (gap <= this.#limits.gap) return;
    this.#unexplained += 1;
    const where = `layer ${layer}, long head ${head}: `;
    this.#note({
      kind: 'retrieval',
      ...this.#at(at - 1, this.#trainer.ids[at - 1] as number),
      trainer: where + parts[0],
      engine: where + parts[1],
    });
  }

  /** The engine's logits [V] after the token at `position`. */
  logits(position: number, logits: Float32Array): void {
    const { logSum, argmax } = summed(logits);
    this.scores(position, argmax, (token) => (logits[token] as number) - logSum);
  }

  /**
   * The engine's answer after the token at `position`: its best token and log p of those asked for.
   *
   * @param logp of a token; `rank` is its place among the trainer's best, -1 for the observed one
   */
  scores(position: number, argmax: number, logp: (token: number, rank: number) => number): void {
    const { ids, best, bestIds, bestLogp, observed } = this.#trainer;
    this.#positions += 1;
    const compare = (token: number, trainer: number, rank: number): void => {
      const engine = logp(token, rank);
      const difference = Math.abs(engine - trainer);
      // NaN is worse than any number.
      const size = finite(Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference);
      this.#values += 1;
      this.#sum += size;
      if (size <= this.#max && this.#worst !== null) return;
      const place = { kind: 'logp', ...this.#at(position, token), trainer, engine: finite(engine) };
      this.#max = size;
      this.#worst = place as Divergence;
      const { kind, tolerance } = this.#limits;
      if (kind === 'largest' && size > tolerance) this.#note(place as Divergence);
    };
    if (position + 1 < ids.length) {
      compare(ids[position + 1] as number, observed[position] as number, -1);
    }
    const from = position * best;
    for (let rank = 0; rank < best; rank++) {
      compare(bestIds[from + rank] as number, bestLogp[from + rank] as number, rank);
    }
    const apart =
      best > 1
        ? (bestLogp[from] as number) - (bestLogp[from + 1] as number)
        : Number.POSITIVE_INFINITY;
    if (argmax === bestIds[from] || apart <= greedyMargin) return;
    this.#greedy += 1;
    if (apart <= failingMargin(this.#limits)) return;
    this.#failingGreedy += 1;
    this.#note({
      kind: 'greedy',
      ...this.#at(position, bestIds[from] as number),
      trainer: this.#text(bestIds[from] as number),
      engine: argmax < 0 ? 'NaN' : this.#text(argmax),
    });
  }

  report(engine: string, precision: string): EngineReport {
    const { kind, tolerance, gap } = this.#limits;
    const mean = this.#values === 0 ? 0 : finite(this.#sum / this.#values);
    return {
      engine,
      tokens: this.#positions,
      boundaryMismatches: this.#boundaries,
      retrievalMismatches: this.#retrievals,
      greedyMismatches: this.#greedy,
      maxAbsDlogp: this.#max,
      meanAbsDlogp: mean,
      precision,
      tolerance,
      limited: kind,
      gapBound: Number.isFinite(gap) ? gap : null,
      largestGap: this.#largestGap,
      nearTies: this.#retrievals - this.#unexplained,
      unexplainedRetrievals: this.#unexplained,
      worst: this.#worst,
      firstDivergence: this.#first,
      ok:
        this.#boundaries === 0 &&
        this.#unexplained === 0 &&
        this.#failingGreedy === 0 &&
        (kind === 'mean' ? mean : this.#max) <= tolerance &&
        this.#positions === this.#trainer.ids.length,
    };
  }

  #at(position: number, token: number): { position: number; token: number; text: string } {
    return { position, token, text: this.#text(token) };
  }

  #note(divergence: Divergence): void {
    this.#first ??= divergence;
  }
}

/** log(sum(exp(logits))) in float64 and the lowest index of the largest; -1 where there is NaN. */
function summed(logits: Float32Array): { logSum: number; argmax: number } {
  let argmax = 0;
  let top = logits[0] as number;
  for (let i = 1; i < logits.length; i++) {
    const value = logits[i] as number;
    if (value > top) {
      top = value;
      argmax = i;
    }
  }
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp((logits[i] as number) - top);
  return { logSum: top + Math.log(sum), argmax: Number.isNaN(sum) ? -1 : argmax };
}

/** JSON has no infinity. */
function finite(value: number): number {
  if (Number.isNaN(value)) return Number.MAX_VALUE;
  return Math.max(-Number.MAX_VALUE, Math.min(Number.MAX_VALUE, value));
}
