export class Sampler {
  #r: { temperature: number; topP: number; seed: number | null; logprobs: number | null };
  #state: number;
  constructor(r: { temperature: number; topP: number; seed: number | null; logprobs: number | null }) {
    this.#r = r;
    this.#state = (r.seed ?? Math.floor(Math.random() * 2 ** 31)) >>> 0;
  }
  #random() {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }
  sample(logits: Float32Array) {
    let max = -Infinity;
    for (const l of logits) if (l > max) max = l;
    let sum = 0;
    for (const l of logits) sum += Math.exp(l - max);
    const norm = max + Math.log(sum);
    const order = Array.from(logits.keys())
      .filter((i) => (logits[i] as number) > max - 20)
      .sort((a, b) => (logits[b] as number) - (logits[a] as number));
    let id = order[0] as number;
    if (this.#r.temperature > 0) {
      const p = order.map((i) => Math.exp(((logits[i] as number) - max) / this.#r.temperature));
      const all = p.reduce((a, b) => a + b, 0);
      let keep = 0;
      let acc = 0;
      while (keep < p.length && acc < this.#r.topP * all) acc += p[keep++] as number;
      let u = this.#random() * acc;
      for (let i = 0; i < keep; i++) {
        u -= p[i] as number;
        id = order[i] as number;
        if (u <= 0) break;
      }
    }
    return {
      id,
      logprob: (logits[id] as number) - norm,
      top: order.slice(0, this.#r.logprobs ?? 0).map((i) => ({ id: i, logprob: (logits[i] as number) - norm })),
    };
  }
}
