// One message as it is shown: its text, where the answer was cut, and which spans of it were read.
import { h } from './dom.js';

/**
 * @typedef {{role: 'system' | 'user' | 'assistant', text: string, cuts?: number[]}} Entry
 *   `cuts`: offsets into the text where the model cut
 * @typedef {{from: number, to: number, level: number, chosen: boolean}} Range
 *   `level` 1 to 4: how many of the heads took it
 */

const NAMES = { system: 'System message', user: 'Your message', assistant: 'Answer' };

/** An empty bubble. Long ones scroll by themselves, with the keyboard too: see `paint`. */
export function makeBubble({ role }) {
  return h('div', {
    class: `bubble ${role}`,
    // Text may run from right to left.
    dir: 'auto',
    role: 'group',
    'aria-label': NAMES[role],
  });
}

/** The template's own line break or a leading space belongs to no one's eyes. */
const leadOf = ({ role, text }) =>
  role === 'assistant' ? text.length - text.trimStart().length : 0;

/**
 * Write an entry into its bubble.
 *
 * @param {Entry} entry
 * @param {Range[]} ranges spans to mark; they do not overlap
 */
export function paint(bubble, entry, ranges = []) {
  const { text, cuts = [] } = entry;
  const out = [];
  let at = leadOf(entry);
  const until = (end) => {
    const nodes = [];
    for (const cut of cuts) {
      if (cut <= at || cut > end) continue;
      nodes.push(text.slice(at, cut), cutMark());
      at = cut;
    }
    nodes.push(text.slice(at, end));
    at = end;
    return nodes;
  };
  for (const { from, to, level, chosen } of [...ranges].sort((a, b) => a.from - b.from)) {
    if (to <= at) continue;
    if (from > at) out.push(...until(from));
    const name = `read level-${level}${chosen ? ' chosen' : ''}`;
    out.push(h('mark', { class: name }, ...until(Math.min(to, text.length))));
  }
  if (at < text.length) out.push(...until(text.length));
  bubble.replaceChildren(...out);
  makeReachable(bubble);
}

/** The keyboard reaches what scrolls; known once the bubble is on the screen. */
export function makeReachable(bubble) {
  if (bubble.scrollHeight > bubble.clientHeight + 1) bubble.tabIndex = 0;
}

/** Append to an answer that is being written. */
export function append(bubble, piece) {
  bubble.append(bubble.textContent === '' ? piece.trimStart() : piece);
}

export function cutMark() {
  return h('span', { class: 'cut', title: 'The model cut here: a new segment begins' });
}

/** Bring the chosen span into view; `outer`: also where that scrolls more than the bubble. */
export function reveal(bubble, outer) {
  const mark = bubble.querySelector('.chosen');
  if (mark === null) return;
  const box = mark.getBoundingClientRect();
  const frame = bubble.getBoundingClientRect();
  // In the middle; one that is higher than the bubble from its first line on.
  const above = Math.max(8, (bubble.clientHeight - box.height) / 2);
  bubble.scrollTop += box.top - frame.top - above;
  if (outer) mark.scrollIntoView({ block: 'nearest', inline: 'nearest' });
}
