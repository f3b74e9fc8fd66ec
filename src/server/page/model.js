// What a segmented model sees, holds and computes: pure functions of boundaries and the contract.
// Symbols follow SEMANTICS.md: segments [s, e), carry M, sinks A, retrieved R.

/**
 * @typedef {{start: number, end: number, index: number, closed: boolean}} Segment
 * @typedef {{layer: number, head: number}} LongHead
 * @typedef {{kind: 'local'} | {kind: 'long', layer: number, head: number} | {kind: 'window'}} Lens
 * @typedef {[number, number]} Span  half-open range of token positions
 * @typedef {{sinks: Span[], carry: Span[], retrieved: Span[], own: Span[]}} View
 */

/** Segments of `length` tokens cut at `boundaries` (the last one may be open). */
export function segmentsOf(boundaries, length) {
  const segments = [];
  let start = 0;
  for (const end of boundaries) {
    segments.push({ start, end, index: segments.length, closed: true });
    start = end;
  }
  if (start < length) segments.push({ start, end: length, index: segments.length, closed: false });
  return segments;
}

/** The segment that holds position `t`, by bisection. */
export function segmentAt(segments, t) {
  let low = 0;
  let high = segments.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (segments[middle].start <= t) low = middle;
    else high = middle - 1;
  }
  return segments[low];
}

/**
 * What a query at position `t` sees through a lens (SEMANTICS.md 2).
 * @param {(segment: number, layer: number, head: number) => Span[]} retrievedBy spans that the
 *   boundary before `segment` retrieved for a long head
 * @returns {View}
 */
export function viewOf(t, segment, contract, lens, retrievedBy) {
  const { size, sinks } = contract.carry;
  const s = segment.start;
  const view = { sinks: [], carry: [], retrieved: [], own: [[s, t + 1]] };
  if (s > 0 && sinks > 0) view.sinks = [[0, Math.min(sinks, s)]];
  if (lens.kind === 'local' || contract.carry.heads === 'all') {
    const from = Math.max(sinks, s - size);
    if (from < s) view.carry = [[from, s]];
  }
  if (lens.kind === 'long' && s > 0) {
    view.retrieved = retrievedBy(segment.index, lens.layer, lens.head);
  }
  return view;
}

export function sizeOf(spans) {
  let size = 0;
  for (const [from, to] of spans) size += to - from;
  return size;
}

/** Heads by what they see: local in any layer, long with a pool, long without. */
export function headGroups(contract) {
  const { layers, kvHeads } = contract.model;
  const pooled = new Set(contract.retrieval.layers);
  const long = [];
  let window = 0;
  contract.heads.long.forEach((heads, layer) => {
    if (pooled.has(layer)) for (const head of heads) long.push({ layer, head });
    else window += heads.length;
  });
  return { local: layers * kvHeads - long.length - window, long, window };
}

/** Rows of the strip, from the contract: a label and a lens each. */
export function lensesOf(contract) {
  const groups = headGroups(contract);
  const lenses = [];
  if (groups.local > 0) lenses.push({ label: 'Local heads', lens: { kind: 'local' } });
  for (const { layer, head } of groups.long) {
    lenses.push({ label: `Layer ${layer}, head ${head}`, lens: { kind: 'long', layer, head } });
  }
  if (groups.window > 0) {
    lenses.push({ label: 'Long heads, no pool', lens: { kind: 'window' } });
  }
  return lenses;
}

/** @param {Lens} a @param {Lens} b */
export function sameLens(a, b) {
  return a.kind === b.kind && a.layer === b.layer && a.head === b.head;
}

/** The lens where the contract has it, else the contract's first. */
export function fittingLens(contract, lens) {
  const lenses = lensesOf(contract);
  const found = lens && lenses.find((one) => sameLens(one.lens, lens));
  return (found ?? lenses[0]).lens;
}

/** Query-key pairs computed so far, per head group, against full attention's. */
export function pairsOf(segments, contract) {
  const { size, sinks } = contract.carry;
  const pairs = { local: 0, long: 0, window: 0, full: 0 };
  for (const { start: s, end: e } of segments) {
    const n = e - s;
    const own = (n * (n + 1)) / 2;
    const a = Math.min(sinks, s);
    const carry = s - Math.min(s, Math.max(sinks, s - size));
    const far = contract.carry.heads === 'all' ? carry : 0;
    const retrieved = Math.min(contract.retrieval.size, Math.max(0, s - sinks - far));
    pairs.local += own + n * (a + carry);
    pairs.long += own + n * (a + retrieved + far);
    pairs.window += own + n * (a + far);
    pairs.full += own + n * s;
  }
  return pairs;
}

/** Share of full attention's query-key pairs that all heads together compute. */
export function workShare(segments, contract) {
  const pairs = pairsOf(segments, contract);
  if (pairs.full === 0) return 1;
  const groups = headGroups(contract);
  const heads = groups.local + groups.long.length + groups.window;
  const work =
    pairs.local * groups.local + pairs.long * groups.long.length + pairs.window * groups.window;
  return work / (heads * pairs.full);
}

/** Bytes held once `position` tokens have run and the open segment began at `start`, by part. */
export function memoryAt(position, start, contract) {
  const { layers, kvHeads, headDim, elementBytes } = contract.model;
  const groups = headGroups(contract);
  const row = 2 * headDim * elementBytes;
  const heads = layers * kvHeads;
  const { size, sinks } = contract.carry;
  const all = contract.carry.heads === 'all';
  const carry = start - Math.min(start, Math.max(sinks, start - size));
  const eligible = Math.max(0, start - sinks - (all ? carry : 0));
  const parts = {
    sinks: Math.min(sinks, start) * heads * row,
    carry: carry * (all ? heads : groups.local) * row,
    retrieved: Math.min(contract.retrieval.size, eligible) * groups.long.length * row,
    pool: Math.max(0, start - sinks) * groups.long.length * row,
    open: (position - start) * heads * row,
  };
  const total = parts.sinks + parts.carry + parts.retrieved + parts.pool + parts.open;
  return { ...parts, total, fullAttention: position * heads * row };
}

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB'];

/** Bytes in three significant digits. */
export function bytes(count) {
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** A whole number with thin spaces between thousands. */
export function number(value) {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f');
}
