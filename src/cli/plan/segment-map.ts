// A plan with the text it cuts, gathered from a stream: what the text map and the page are drawn from.

/** One segment: tokens [start, end) and its text. */
export interface SegmentRow {
  index: number;
  start: number;
  end: number;
  /** The last segment, which the policy has not closed. */
  open: boolean;
  /** First and last characters of the text; `last` is empty where `first` is all of it. */
  first: string;
  last: string;
  /** The whole text, or null once the document is too long to keep. */
  text: string | null;
}

/** Mean segment lengths over stretches of the document, in order. */
export interface LengthCurve {
  /** Closed segments one entry stands for (the last may have fewer). */
  per: number;
  means: number[];
}

/** Everything a picture of a plan needs, in bounded memory however long the document. */
export interface SegmentMap {
  tokens: number;
  /** Closed segments. */
  closed: number;
  /** Lengths in tokens of closed segments; 0 without any. */
  shortest: number;
  longest: number;
  mean: number;
  /** Closed segments of exactly `max` tokens. */
  atMax: number;
  /** Closed segments by length, in equal bins over [1, max]. */
  histogram: number[];
  curve: LengthCurve;
  /** First rows, and last rows where there are more; `skipped` rows lie between. */
  head: SegmentRow[];
  tail: SegmentRow[];
  skipped: number;
}

export interface CollectorOptions {
  /** S, in tokens. */
  max: number;
  /** Incremental text of tokens. */
  decoder: { push(id: number): string; end(): string };
  /** Rows kept from the start and from the end. */
  headRows: number;
  tailRows: number;
  /** Characters of the document up to which whole texts are kept. */
  textLimit: number;
}

const excerpt = 96;
const bins = 24;
const curvePoints = 512;

/** Gathers a SegmentMap from ids and cuts as they come. */
export class SegmentCollector {
  readonly #options: CollectorOptions;
  readonly #head: SegmentRow[] = [];
  readonly #tail: SegmentRow[] = [];
  readonly #histogram: number[] = new Array(bins).fill(0);
  #curve: { sum: number; count: number }[] = [];
  #per = 1;
  #position = 0;
  #start = 0;
  #index = 0;
  #characters = 0;
  #first = '';
  #last = '';
  #parts: string[] | null = [];
  #shortest = Number.POSITIVE_INFINITY;
  #longest = 0;
  #sum = 0;
  #atMax = 0;

  constructor(options: CollectorOptions) {
    this.#options = options;
  }

  /** Take the next ids of the document and the cuts (numbers of tokens before them) among them. */
  add(ids: ArrayLike<number>, cuts: ArrayLike<number>): void {
    let next = 0;
    for (let i = 0; i < ids.length; i++) {
      this.#text(this.#options.decoder.push(ids[i] as number));
      this.#position += 1;
      if (cuts[next] !== this.#position) continue;
      next += 1;
      this.#close();
    }
  }

  /** The finished map. */
  end(): SegmentMap {
    this.#text(this.#options.decoder.end());
    const closed = this.#index;
    if (this.#position > this.#start) this.#push(true);
    const kept = this.#head.length + this.#tail.length;
    return {
      tokens: this.#position,
      closed,
      shortest: closed === 0 ? 0 : this.#shortest,
      longest: this.#longest,
      mean: closed === 0 ? 0 : this.#sum / closed,
      atMax: this.#atMax,
      histogram: this.#histogram,
      curve: { per: this.#per, means: this.#curve.map(({ sum, count }) => sum / count) },
      head: this.#head,
      tail: this.#tail,
      skipped: this.#index - kept,
    };
  }

  #text(text: string): void {
    if (text === '') return;
    this.#characters += text.length;
    if (this.#characters > this.#options.textLimit && this.#parts !== null) {
      this.#parts = null;
      for (const row of this.#head) row.text = null;
      for (const row of this.#tail) row.text = null;
    }
    this.#parts?.push(text);
    if (this.#first.length < excerpt) this.#first += text;
    else {
      this.#last += text;
      if (this.#last.length > 8 * excerpt) this.#last = this.#last.slice(-excerpt);
    }
  }

  #close(): void {
    const length = this.#position - this.#start;
    const { max } = this.#options;
    this.#shortest = Math.min(this.#shortest, length);
    this.#longest = Math.max(this.#longest, length);
    this.#sum += length;
    if (length === max) this.#atMax += 1;
    const bin = Math.min(bins - 1, Math.floor(((length - 1) * bins) / max));
    this.#histogram[bin] = (this.#histogram[bin] ?? 0) + 1;
    this.#addToCurve(length);
    this.#push(false);
  }

  #push(open: boolean): void {
    const row: SegmentRow = {
      index: this.#index,
      start: this.#start,
      end: this.#position,
      open,
      first: this.#first,
      last: this.#last.slice(-excerpt),
      text: this.#parts?.join('') ?? null,
    };
    this.#index += 1;
    this.#start = this.#position;
    this.#first = '';
    this.#last = '';
    if (this.#parts !== null) this.#parts = [];
    if (this.#head.length < this.#options.headRows) {
      this.#head.push(row);
      return;
    }
    this.#tail.push(row);
    if (this.#tail.length > this.#options.tailRows) this.#tail.shift();
  }

  /** When all points are used, neighbours are joined and each point stands for twice as many. */
  #addToCurve(length: number): void {
    const last = this.#curve.at(-1);
    if (last !== undefined && last.count < this.#per) {
      last.sum += length;
      last.count += 1;
      return;
    }
    if (this.#curve.length === curvePoints) {
      const joined: { sum: number; count: number }[] = [];
      for (let i = 0; i < curvePoints; i += 2) {
        const [a, b] = [this.#curve[i], this.#curve[i + 1]];
        if (a !== undefined && b !== undefined) {
          joined.push({ sum: a.sum + b.sum, count: a.count + b.count });
        }
      }
      this.#curve = joined;
      this.#per *= 2;
    }
    this.#curve.push({ sum: length, count: 1 });
  }
}

/** What the heading of a map says of the contract. */
export interface MapHeading {
  /** Name of the text. */
  title: string;
  /** Name of the model whose tokenizer cuts it. */
  model: string;
  policy: string;
  params: string;
  min: number;
  max: number;
  align: number;
  digest: string;
}

/** 1234567 as `1,234,567`. */
export function thousands(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, ',');
}
