// The tokens themselves, in bands by segment; what the looked-from token sees stays lit.
import { byId, h } from './dom.js';
import { number } from './model.js';

/** Above this many tokens a band is plain text, without an element a token. */
const MOST_ELEMENTS = 8000;

export function makeText(stage) {
  const root = byId('sequence');
  const note = byId('sequence-note');
  let shown = null;
  let epoch = -1;
  let rendered = 0;
  /** @type {{element: HTMLElement, tag: HTMLElement}[]} */
  let bands = [];
  let tokens = [];
  let lit = [];

  root.addEventListener('pointerover', (event) => {
    const token = event.target.closest('.t');
    const band = event.target.closest('.seg');
    if (token !== null) stage.sequence.hover(Number(token.dataset.i));
    else if (band !== null && tokens.length === 0)
      stage.sequence.hover(Number(band.dataset.end) - 1);
  });
  root.addEventListener('pointerleave', () => stage.sequence.hover(null));
  root.addEventListener('click', (event) => {
    const token = event.target.closest('.t');
    if (token === null) return;
    const { sequence } = stage;
    const position = Number(token.dataset.i);
    sequence.pin(sequence.pinned === position ? null : position);
  });

  function clear() {
    shown = stage.sequence;
    epoch = shown.epoch;
    rendered = 0;
    bands = [];
    tokens = [];
    lit = [];
    root.replaceChildren();
    root.classList.remove('lit');
  }

  function bandFor(segment) {
    let band = bands[segment.index];
    if (band === undefined) {
      const tag = h('span', { class: 'tag', dir: 'ltr' });
      const element = h('span', { class: `seg seg-${segment.index % 3}` }, tag);
      band = { element, tag };
      bands[segment.index] = band;
      root.append(element);
    }
    const words = segment.closed ? number(segment.end - segment.start) : 'open';
    const label = `${segment.index} · ${words}`;
    if (band.tag.textContent !== label) band.tag.textContent = label;
    band.element.dataset.end = String(segment.end);
    return band;
  }

  /** Bring the bands up to date; appends only, unless the sequence was restarted. */
  function sync() {
    const { sequence } = stage;
    if (shown !== sequence || epoch !== sequence.epoch) clear();
    const plain = sequence.length > MOST_ELEMENTS && rendered === 0;
    const following = root.scrollHeight - root.scrollTop - root.clientHeight < 40;
    for (const segment of sequence.segments) {
      if (segment.end <= rendered && bands[segment.index] !== undefined) {
        if (segment.index >= bands.length - 1) bandFor(segment);
        continue;
      }
      const { element } = bandFor(segment);
      const from = Math.max(rendered, segment.start);
      if (plain) {
        const texts = sequence.tokens.slice(from, segment.end).map((token) => token.text);
        element.append(texts.join(''));
      } else {
        for (let i = from; i < segment.end; i++) {
          const { special, text } = sequence.tokens[i];
          // The template's own words do not decide which way the text runs.
          const named = special ? { class: 't special', dir: 'ltr' } : { class: 't' };
          const span = h('span', named, text);
          span.dataset.i = String(i);
          tokens[i] = span;
          element.append(span);
        }
      }
      rendered = segment.end;
    }
    if (following && sequence.ran) root.scrollTop = root.scrollHeight;
    const cuts = sequence.boundaries.length;
    note.textContent =
      sequence.length === 0
        ? ''
        : `${sequence.caption}${number(sequence.length)} tokens, ${cuts} ${cuts === 1 ? 'cut' : 'cuts'}. Point at a token to see what it sees.`;
    light();
  }

  function light() {
    const { sequence } = stage;
    for (const i of lit)
      tokens[i]?.classList.remove(
        'see',
        'at',
        'see-sinks',
        'see-carry',
        'see-retrieved',
        'see-own',
      );
    lit = [];
    const chosen = sequence.hovered ?? sequence.pinned;
    const on = chosen !== null && chosen < sequence.length && tokens.length > 0;
    root.classList.toggle('lit', on);
    if (!on) return;
    const view = sequence.view(chosen);
    for (const role of ['own', 'carry', 'retrieved', 'sinks']) {
      for (const [from, to] of view[role]) {
        for (let i = from; i < to; i++) {
          tokens[i]?.classList.add('see', `see-${role}`);
          lit.push(i);
        }
      }
    }
    tokens[chosen]?.classList.add('at');
    lit.push(chosen);
  }

  return { sync, light };
}
