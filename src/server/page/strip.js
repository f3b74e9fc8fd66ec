// The strip: the whole sequence on one line, and what each kind of head sees of it.
import { byId, h, svg } from './dom.js';
import { lensesOf, number, sameLens, sizeOf } from './model.js';

const TRACK = 15;
const GAP = 9;
const MAX_LONG_ROWS = 6;
/** Narrower segments would be hidden by the lines between them. */
const LEAST_BETWEEN_LINES = 6;

/** @param {{sequence: import('./state.js').Sequence}} stage what is shown now */
export function makeStrip(stage) {
  const root = byId('strip');
  const slider = byId('query');
  const select = byId('lens');
  let contract = null;
  let lenses = [];
  select.addEventListener('change', () =>
    stage.sequence.setLens(lenses[Number(select.value)].lens),
  );
  slider.addEventListener('input', () => {
    const { sequence } = stage;
    const value = Number(slider.value);
    sequence.pin(value >= sequence.length - 1 ? null : value);
  });

  let geometry = { left: 0, width: 1 };
  const locate = (event) => {
    const { sequence } = stage;
    if (sequence.length === 0) return null;
    const x = event.clientX - root.getBoundingClientRect().left - geometry.left;
    const position = Math.floor((x / geometry.width) * sequence.length);
    return position >= 0 && position < sequence.length ? position : null;
  };
  root.addEventListener('pointermove', (event) => stage.sequence.hover(locate(event)));
  root.addEventListener('pointerleave', () => stage.sequence.hover(null));
  root.addEventListener('click', (event) => {
    const position = locate(event);
    if (position !== null) stage.sequence.pin(position);
  });

  /** The choice of heads is of the contract that is drawn. */
  function follow(sequence) {
    if (sequence.contract !== contract) {
      contract = sequence.contract;
      lenses = lensesOf(contract);
      select.replaceChildren(...lenses.map(({ label }, i) => h('option', { value: i }, label)));
    }
    select.value = String(lenses.findIndex(({ lens }) => sameLens(lens, sequence.lens)));
  }

  function rows(sequence) {
    if (lenses.length <= MAX_LONG_ROWS + 2) return lenses;
    const chosen = lenses.findIndex(({ lens }) => sameLens(lens, sequence.lens));
    const first = lenses.slice(0, MAX_LONG_ROWS + 1);
    return chosen < first.length ? first : [...first.slice(0, -1), lenses[chosen]];
  }

  function draw() {
    const { sequence } = stage;
    follow(sequence);
    const width = root.clientWidth;
    const left = width > 520 ? 126 : 0;
    const head = left === 0 ? 14 : 0;
    const list = rows(sequence);
    const step = TRACK + GAP + head;
    const height = (list.length + 1) * step + 14;
    const inner = Math.max(1, width - left);
    geometry = { left, width: inner };
    const n = Math.max(1, sequence.length);
    const x = (token) => left + (token / n) * inner;
    const picture = svg('svg', {
      viewBox: `0 0 ${width} ${height}`,
      height,
      role: 'img',
      'aria-label': 'The sequence from its first to its newest token, one row a kind of head',
    });
    const track = (y) =>
      picture.append(
        svg('rect', { x: left, y, width: inner, height: TRACK, rx: 4, class: 'track' }),
      );
    const bar = (y, [from, to], name, title, least = 2.5) => {
      const size = Math.max(least, x(to) - x(from));
      const at = Math.min(x(from), left + inner - size);
      const rect = svg('rect', {
        x: at,
        y,
        width: size,
        height: TRACK,
        rx: Math.min(3, size / 2),
        class: name,
      });
      if (title) rect.append(svg('title', {}, title));
      picture.append(rect);
    };
    const label = (y, text, chosen) =>
      picture.append(
        svg(
          'text',
          { x: 0, y: head === 0 ? y + TRACK - 4 : y - 4, class: chosen ? 'chosen' : null },
          text,
        ),
      );

    let y = head;
    label(y, 'Segments');
    track(y);
    for (const segment of sequence.segments) {
      const tokens = segment.end - segment.start;
      bar(
        y,
        [segment.start, segment.end],
        `band-${segment.index % 3}`,
        `Segment ${segment.index}: tokens ${segment.start} to ${segment.end - 1} (${tokens})${segment.closed ? '' : ', still open'}`,
        1,
      );
      const room = x(segment.end) - x(segment.start);
      if (room > 26) {
        picture.append(
          svg(
            'text',
            { x: x(segment.start) + 5, y: y + TRACK - 4, class: 'number' },
            String(segment.index),
          ),
        );
      }
    }
    const lined = inner / Math.max(1, sequence.segments.length) >= LEAST_BETWEEN_LINES;
    for (const cut of lined ? sequence.boundaries : []) {
      picture.append(
        svg('line', { x1: x(cut), x2: x(cut), y1: y, y2: y + TRACK, class: 'cutline' }),
      );
    }

    const query = sequence.query;
    for (const { label: text, lens } of list) {
      y += step;
      label(y, text, sameLens(lens, sequence.lens));
      track(y);
      if (query === null) continue;
      const view = sequence.view(query, lens);
      const { start } = sequence.segmentOf(query);
      const sinks = Math.min(sequence.contract.carry.sinks, start);
      if (lens.kind === 'long' && start > sinks) {
        bar(y, [sinks, start], 'fill-pool', 'Pool: kept for this head and searched at each cut');
      }
      for (const span of view.own)
        bar(y, span, 'fill-own', `Own segment: ${sizeOf([span])} tokens`);
      for (const span of view.carry) bar(y, span, 'fill-carry', `Carry: ${sizeOf([span])} tokens`);
      for (const span of view.retrieved) {
        bar(y, span, 'fill-retrieved', `Retrieved: tokens ${span[0]} to ${span[1] - 1}`);
      }
      for (const span of view.sinks)
        bar(y, span, 'fill-sinks', `Sinks: ${sizeOf([span])} tokens`, 4);
    }
    if (query !== null) {
      const at = x(query + 0.5);
      picture.append(svg('line', { x1: at, x2: at, y1: head, y2: y + TRACK + 2, class: 'needle' }));
      const words = `token ${number(query)}`;
      const anchor = at > width - 60 ? 'end' : at < left + 40 ? 'start' : 'middle';
      picture.append(
        svg('text', { x: at, y: height - 1, 'text-anchor': anchor, class: 'number' }, words),
      );
    }
    root.replaceChildren(picture);

    slider.max = String(Math.max(0, sequence.length - 1));
    slider.value = String(query ?? 0);
    slider.disabled = sequence.length === 0;
    const read = describe(sequence);
    slider.setAttribute('aria-valuetext', read.textContent ?? '');
    byId('readout').replaceChildren(read);
  }
  return draw;
}

/** What the query sees, in one sentence. */
function describe(sequence) {
  const out = document.createDocumentFragment();
  const query = sequence.query;
  if (query === null) {
    out.append('Nothing has run yet.');
    return out;
  }
  const segment = sequence.segmentOf(query);
  const view = sequence.view(query);
  const parts = [
    ['sinks', sizeOf(view.sinks), 'sinks'],
    ['carry', sizeOf(view.carry), 'carried'],
    ['retrieved', sizeOf(view.retrieved), 'retrieved'],
    ['own', sizeOf(view.own), 'of its own segment'],
  ].filter(([, count]) => count > 0);
  const seen = parts.reduce((sum, [, count]) => sum + count, 0);
  out.append(
    'Token ',
    h('b', {}, number(query)),
    ` in segment ${segment.index} sees `,
    h('b', {}, number(seen)),
    ` of ${number(query + 1)}: `,
  );
  parts.forEach(([role, count, words], i) => {
    out.append(
      i === 0 ? '' : ', ',
      h('span', { class: `dot role-${role}` }),
      `${number(count)} ${words}`,
    );
  });
  out.append('.');
  if (sequence.lens.kind === 'long' && segment.start > 0 && !sequence.ran) {
    out.append(' What it retrieves is chosen when the model runs.');
  }
  return out;
}
