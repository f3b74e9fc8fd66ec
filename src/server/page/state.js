// The sequence that the page looks at, and the token it looks from.
import { fittingLens, segmentAt, segmentsOf, viewOf } from './model.js';

const key = (segment, layer, head) => `${segment}:${layer}:${head}`;

/** Emits `change` when tokens, cuts or memory change and `look` when the query or the lens does. */
export class Sequence extends EventTarget {
  constructor(contract) {
    super();
    /** Counts resets, so that a view knows when to start over instead of appending. */
    this.epoch = 0;
    this.reset(contract);
  }

  /** Start over, under this contract from now on. */
  reset(contract = this.contract) {
    this.contract = contract;
    this.lens = fittingLens(contract, this.lens);
    this.epoch += 1;
    /** @type {{text: string, special: boolean}[]} */
    this.tokens = [];
    this.boundaries = [];
    this.segments = [];
    this.retrieved = new Map();
    this.memory = null;
    /** Measured [position, bytes held, bytes of full attention], in order. */
    this.history = [];
    this.ran = false;
    /** What is shown where it is not what the user wrote. */
    this.caption = '';
    this.pinned = null;
    this.hovered = null;
    this.dispatchEvent(new Event('change'));
  }

  /** Show a plan: cuts are known, nothing has run. */
  plan({ texts, special, boundaries }, caption = '') {
    this.reset();
    this.caption = caption;
    const marked = new Set(special);
    this.tokens = texts.map((text, i) => ({ text, special: marked.has(i) }));
    this.boundaries = boundaries;
    this.segments = segmentsOf(boundaries, texts.length);
    this.dispatchEvent(new Event('change'));
  }

  /** Append what one chunk of a traced answer says (the `lockstep` field). */
  trace({ tokens, cut, retrieved, memory }) {
    this.ran = true;
    for (const token of tokens) {
      this.tokens.push({ text: token.text, special: token.special === true });
    }
    if (cut !== null) {
      this.boundaries.push(cut);
      for (const { layer, heads } of retrieved ?? []) {
        for (const { head, spans } of heads) {
          this.retrieved.set(key(this.boundaries.length, layer, head), spans);
        }
      }
    }
    this.segments = segmentsOf(this.boundaries, this.tokens.length);
    if (memory !== null) {
      this.memory = memory;
      this.history.push([this.tokens.length, memory.total, memory.fullAttention]);
    }
    this.dispatchEvent(new Event('change'));
  }

  get length() {
    return this.tokens.length;
  }

  /** The token that is looked from: under the pointer, else pinned, else the newest. */
  get query() {
    if (this.length === 0) return null;
    return Math.min(this.hovered ?? this.pinned ?? this.length - 1, this.length - 1);
  }

  hover(position) {
    if (position === this.hovered) return;
    this.hovered = position;
    this.dispatchEvent(new Event('look'));
  }

  /** Keep looking from `position`; null follows the newest token again. */
  pin(position) {
    this.pinned = position;
    this.dispatchEvent(new Event('look'));
  }

  /** The first lens takes the place of one that this contract does not have. */
  setLens(lens) {
    this.lens = fittingLens(this.contract, lens);
    this.dispatchEvent(new Event('look'));
  }

  segmentOf(position) {
    return segmentAt(this.segments, position);
  }

  view(position, lens = this.lens) {
    return viewOf(position, this.segmentOf(position), this.contract, lens, (segment, layer, head) =>
      this.retrievedFor(segment, layer, head),
    );
  }

  retrievedFor(segment, layer, head) {
    return this.retrieved.get(key(segment, layer, head)) ?? [];
  }
}
