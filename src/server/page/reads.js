// “Read from”: which spans of the conversation an answer's segments retrieved, and where they stand.
import { paint, reveal } from './bubble.js';
import { h } from './dom.js';
import { number } from './model.js';

/** Spans that are listed at first. */
const FEW = 4;
/** Shorter spans are quoted with the text around them. */
const SHORT = 40;
const AROUND = 32;
const LONGEST = 180;
/** Characters of a part that stand on its button; more parts than MANY have numbers alone. */
const BEGINNING = 22;
const MANY = 6;

/** Share of heads, in four steps: the bars beside a quote and the line under a marked span. */
const levelOf = (weight) => Math.min(4, Math.max(1, Math.ceil(weight * 4)));

const squeeze = (text) => text.replace(/\s+/g, ' ');

/**
 * @param answer the answer's entry: its text, and `sources` as the server told them, a list or null; `part`
 *   of each is where its text begins in the answer
 * @param placeOf gives `{entry, from, to}` of a span, or null where it is in no message
 * @param bubbleOf the bubble of an entry
 * @returns {HTMLElement | null}
 */
export function makeReads(answer, placeOf, bubbleOf) {
  const { sources } = answer;
  if (sources === null) return note('Unknown: this engine does not report what it retrieves.');
  if (sources.length === 0) return note('Nothing: there is no cut before the answer.');
  if (sources.every((source) => source.heads === 0)) return null;
  const list = h('ol', { class: 'sources' });
  const filling = h('p', { class: 'small' });
  const more = h('button', { type: 'button', class: 'quiet more' });
  const root = h(
    'section',
    { class: 'reads', 'aria-label': 'What this answer read from' },
    h(
      'p',
      { class: 'reads-head' },
      h('b', {}, 'Read from'),
      ' what was retrieved at the cut, in addition to its own segment and the carry',
    ),
  );
  let source = sources[0];
  let all = false;
  let pinned = null;
  let shown = new Set();

  /** Mark the spans of this segment in their messages, one of them as the chosen one. */
  function mark(chosen, outer) {
    const byEntry = new Map();
    if (chosen !== null) {
      for (const span of placed()) {
        const { entry, from, to } = span.place;
        const range = { from, to, level: levelOf(span.weight), chosen: span === chosen };
        byEntry.set(entry, [...(byEntry.get(entry) ?? []), range]);
      }
    }
    for (const entry of shown) if (!byEntry.has(entry)) paint(bubbleOf(entry), entry);
    for (const [entry, ranges] of byEntry) paint(bubbleOf(entry), entry, ranges);
    shown = new Set(byEntry.keys());
    if (chosen !== null) reveal(bubbleOf(chosen.place.entry), outer);
  }

  function pin(span) {
    pinned = span;
    for (const button of list.querySelectorAll('button')) {
      button.setAttribute('aria-pressed', String(button.span === span));
    }
  }

  function placed() {
    return spansOf(source, placeOf).filter((span) => span.place !== null);
  }

  function item(span) {
    const share = `${Math.max(1, Math.round(span.weight * 100))}%`;
    const level = levelOf(span.weight);
    const button = h(
      'button',
      {
        type: 'button',
        class: `source level-${level}`,
        'aria-pressed': 'false',
        title: `Taken by ${share} of ${source.heads} long heads. Click to keep it marked.`,
      },
      h('span', { class: 'strength', 'aria-hidden': true }, ...bars(level)),
      h('span', { class: 'share' }, share, h('span', { class: 'hidden' }, ' of the heads: ')),
      h('q', { dir: 'auto' }, ...quote(span)),
    );
    button.span = span;
    button.addEventListener('pointerenter', () => mark(span, false));
    button.addEventListener('pointerleave', () => mark(pinned, false));
    button.addEventListener('focus', () => mark(span, false));
    button.addEventListener('blur', () => mark(pinned, false));
    button.addEventListener('click', () => {
      pin(pinned === span ? null : span);
      mark(span, true);
    });
    return h('li', {}, button);
  }

  function fill() {
    filling.hidden = !source.filled;
    if (source.filled) {
      const [from, to] = source.filled;
      filling.textContent = `Plus up to ${number(to - from)} tokens from the start, added to fill the remaining space.`;
    }
    if (source.whole) {
      const tokens = source.spans.reduce((sum, { tokens: [a, b] }) => sum + b - a, 0);
      list.replaceChildren(
        h(
          'li',
          { class: 'small' },
          `All earlier text (${number(tokens)} tokens) fits, so all of it was retrieved.`,
        ),
      );
      more.hidden = true;
      return;
    }
    const spans = placed();
    if (spans.length === 0) {
      list.replaceChildren(h('li', { class: 'small' }, 'Nothing from this conversation.'));
      more.hidden = true;
      return;
    }
    list.replaceChildren(...spans.slice(0, all ? undefined : FEW).map(item));
    more.hidden = spans.length <= FEW;
    more.textContent = all ? 'Fewer' : `${number(spans.length - FEW)} more`;
    more.setAttribute('aria-expanded', String(all));
    pin(null);
  }

  more.addEventListener('click', () => {
    all = !all;
    fill();
  });
  if (sources.length > 1) root.append(parts(answer, (chosen) => choose(chosen)));
  function choose(chosen) {
    mark(null, false);
    source = chosen;
    all = false;
    fill();
  }
  root.append(list, more, filling);
  fill();
  // Call this before marking spans for another answer.
  root.unmark = () => {
    pin(null);
    mark(null, false);
  };
  return root;
}

function note(words) {
  return h('p', { class: 'reads reads-head' }, h('b', {}, 'Read from'), ' ', words);
}

/** Spans with their places; computed once, for buttons compare them. */
const known = new WeakMap();
function spansOf(source, placeOf) {
  if (!known.has(source)) {
    known.set(
      source,
      source.spans.map((span) => ({ ...span, place: placeOf(span) })),
    );
  }
  return known.get(source);
}

/** One button a segment of the answer. */
function parts({ text, sources }, choose) {
  const buttons = sources.map((source, i) => {
    const next = sources[i + 1]?.part ?? text.length;
    const end = Math.min(source.part + BEGINNING, next);
    const words = sources.length > MANY ? '' : squeeze(text.slice(source.part, end)).trim();
    const button = h(
      'button',
      {
        type: 'button',
        class: 'part',
        'aria-pressed': String(i === 0),
        title: `The answer's part in segment ${source.segment}`,
      },
      `Part ${i + 1}`,
      words === ''
        ? null
        : h('span', { class: 'small' }, ' ', h('bdi', {}, words), end < next ? '…' : ''),
    );
    button.addEventListener('click', () => {
      for (const other of buttons) other.setAttribute('aria-pressed', String(other === button));
      choose(source);
    });
    return button;
  });
  return h(
    'div',
    { class: 'parts-row', role: 'group', 'aria-label': 'Parts of the answer' },
    ...buttons,
  );
}

function bars(level) {
  return [1, 2, 3, 4].map((step) => h('i', { class: step <= level ? 'on' : null }));
}

/** The text of the span; of a short span, also the text around it. */
function quote({ place: { entry, from, to } }) {
  const own = entry.text.slice(from, to);
  if (own.trim().length >= SHORT) {
    const text = squeeze(own).trim();
    return [text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text];
  }
  const before = entry.text.slice(Math.max(0, from - AROUND), from);
  const after = entry.text.slice(to, to + AROUND);
  return [
    from > AROUND ? '…' : '',
    squeeze(before),
    h('b', {}, squeeze(own)),
    squeeze(after),
    to + AROUND < entry.text.length ? '…' : '',
  ];
}
