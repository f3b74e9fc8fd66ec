// From logits to a token: temperature, nucleus, a seeded generator; all in float64.

export interface SamplingOptions {
  /** 0 takes the best token. Default 1. */
  temperature?: number;
  /** Sample among the fewest best tokens whose probabilities sum to at least this. Default 1. */
  topP?: number;
  /** Sample among the tokens that are no worse than the k-th best; -1 and 0 set no limit. Default -1. */
  topK?: number | undefined;
  /** Sample among tokens at least this likely relative to the best one. Default 0. */
  minP?: number | undefined;
  /** Same seed and same logits, same tokens; null or absent draws a fresh seed. */
  seed?: number | null;
  /** Alternatives to report with each token; null or absent reports none. */
  logprobs?: number | null;
}

export interface Alternative {
  id: number;
  /** log p under the model itself: before temperature and nucleus. */
  logprob: number;
}

export interface Sampled extends Alternative {
  /** The `logprobs` best tokens, best first, equal ones by id. */
  top: Alternative[];
}

/** Weights looked at first for a nucleus; smaller ones only where these do not suffice. */
const firstLook = 1e-3;

/**
 * Draws tokens. The algorithm, so that another program can repeat it:
 *
 * 1. temperature 0: the token with the largest logit, the lower id on a tie.
 * 2. Else w_i = exp((l_i - l_best) / temperature); 0 for those below minP, and for those below the
 *    topK-th largest. whole = their sum in order of ids. The candidates
 *    are all tokens in order of ids where topP is 1; else the tokens ordered by weight, descending,
 *    equal ones by id, up to the first whose running sum reaches topP * whole. With u = random() * (sum
 *    of the candidates), the token is the first whose running sum exceeds u.
 * 3. random() is the next 53 bits of xoshiro128**, seeded by splitmix32 from the seed's two halves;
 *    one number is drawn a token, temperature 0 draws none.
 */
export class Sampler {
  readonly #temperature: number;
  readonly #topP: number;
  readonly #topK: number;
  readonly #minP: number;
  readonly #logprobs: number;
  readonly #random: () => number;

  constructor(options: SamplingOptions = {}) {
    this.#temperature = options.temperature ?? 1;
    this.#topP = options.topP ?? 1;
    this.#topK = options.topK ?? -1;
    this.#minP = options.minP ?? 0;
    this.#logprobs = options.logprobs ?? 0;
    this.#random = generator(options.seed ?? Math.floor(Math.random() * 2 ** 53));
  }

  /**
   * The next token after these logits.
   *
   * @param logits one row [vocabulary], as the model gave them
   * @param drawn the row to draw from, where it is another one
   */
  sample(logits: Float32Array, drawn: Float32Array = logits): Sampled {
    const best = argmax(drawn);
    const id = this.#temperature > 0 ? this.#draw(drawn, drawn[best] as number) : best;
    return scored(logits, id, this.#logprobs);
  }

  #draw(logits: Float32Array, most: number): number {
    const weights = Float64Array.from(logits, (l) => Math.exp((l - most) / this.#temperature));
    if (this.#minP > 0) keepFrom(weights, this.#minP);
    if (this.#topK > 0 && this.#topK < weights.length) keepFrom(weights, kth(weights, this.#topK));
    const whole = weights.reduce((sum, weight) => sum + weight, 0);
    if (this.#topP >= 1) return pick(weights, weights.keys(), this.#random() * whole);
    const { ids, sum } = nucleus(weights, this.#topP * whole);
    return pick(weights, ids, this.#random() * sum);
  }
}

/** An id with its log p, and the `count` likeliest ones, after logits [vocabulary]. */
export function scored(logits: Float32Array, id: number, count: number): Sampled {
  const most = logits[argmax(logits)] as number;
  const normalizer = logSumExp(logits, most);
  const logprob = (one: number): number => (logits[one] as number) - normalizer;
  const top = bestIds(logits, count).map((one) => ({ id: one, logprob: logprob(one) }));
  return { id, logprob: logprob(id), top };
}

/** Smaller weights become 0. */
function keepFrom(weights: Float64Array, least: number): void {
  for (let id = 0; id < weights.length; id++) if ((weights[id] as number) < least) weights[id] = 0;
}

/** The k-th largest weight. */
function kth(weights: Float64Array, k: number): number {
  return Float64Array.from(weights).sort().at(-k) as number;
}

/** The fewest largest weights that reach `wanted`, largest first, equal ones by id; and their sum. */
function nucleus(weights: Float64Array, wanted: number): { ids: number[]; sum: number } {
  for (let least = firstLook; ; least = least < 1e-30 ? 0 : least ** 2) {
    const ids: number[] = [];
    for (let id = 0; id < weights.length; id++) {
      if ((weights[id] as number) >= least) ids.push(id);
    }
    ids.sort((a, b) => (weights[b] as number) - (weights[a] as number) || a - b);
    let sum = 0;
    for (let kept = 0; kept < ids.length; kept++) {
      sum += weights[ids[kept] as number] as number;
      if (sum >= wanted) return { ids: ids.slice(0, kept + 1), sum };
    }
    if (least === 0) return { ids, sum };
  }
}

/** The first id whose running sum of weights exceeds `u`. */
function pick(weights: Float64Array, ids: Iterable<number>, u: number): number {
  let sum = 0;
  let last = 0;
  for (const id of ids) {
    const weight = weights[id] as number;
    sum += weight;
    if (sum > u) return id;
    // Rounding may leave u at the very end: the last token that can be drawn.
    if (weight > 0) last = id;
  }
  return last;
}

/** log p of every token, float64 [vocabulary]. */
export function logSoftmax(logits: Float32Array): Float64Array {
  const normalizer = logSumExp(logits, logits[argmax(logits)] as number);
  return Float64Array.from(logits, (logit) => logit - normalizer);
}

/** Index of the largest logit; the lower one on a tie. */
export function argmax(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) {
    if ((logits[id] as number) > (logits[best] as number)) best = id;
  }
  return best;
}

function logSumExp(logits: Float32Array, most: number): number {
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - most);
  return most + Math.log(sum);
}

/** The `count` best ids, best first, equal ones by id. */
function bestIds(logits: Float32Array, count: number): number[] {
  const found: number[] = [];
  if (count === 0) return found;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id] as number;
    if (found.length === count && logit <= (logits[found[count - 1] as number] as number)) continue;
    let at = found.length;
    while (at > 0 && (logits[found[at - 1] as number] as number) < logit) at--;
    found.splice(at, 0, id);
    if (found.length > count) found.pop();
  }
  return found;
}

/** xoshiro128** by Blackman and Vigna, numbers in [0, 1) with 53 bits. */
function generator(seed: number): () => number {
  const s = new Uint32Array(4);
  let mix = (seed >>> 0) ^ Math.imul(Math.floor(seed / 2 ** 32) >>> 0, 0x9e3779b9);
  for (let i = 0; i < 4; i++) {
    mix = (mix + 0x9e3779b9) | 0;
    let z = mix ^ (mix >>> 16);
    z = Math.imul(z, 0x21f0aaad);
    z ^= z >>> 15;
    z = Math.imul(z, 0x735a2d97);
    s[i] = z ^ (z >>> 15);
  }
  const rotate = (x: number, k: number): number => (x << k) | (x >>> (32 - k));
  const next = (): number => {
    const [s0, s1, s2, s3] = s as unknown as [number, number, number, number];
    const result = Math.imul(rotate(Math.imul(s1, 5), 7), 9) >>> 0;
    s[2] = s2 ^ s0;
    s[3] = s3 ^ s1;
    s[1] = s1 ^ (s[2] as number);
    s[0] = s0 ^ (s[3] as number);
    s[2] = (s[2] as number) ^ (s1 << 9);
    s[3] = rotate(s[3] as number, 11);
    return result;
  };
  return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
}
