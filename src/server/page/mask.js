// The attention mask as a picture: rows look, columns are seen.
import { byId, svg } from './dom.js';
import { workShare } from './model.js';

const SIZE = 320;

export function makeMask(stage) {
  const root = byId('mask');
  const figure = byId('work');
  const locate = (event) => {
    const { top, height } = root.getBoundingClientRect();
    const { sequence } = stage;
    if (sequence.length === 0) return null;
    const row = Math.floor(((event.clientY - top) / height) * sequence.length);
    return row >= 0 && row < sequence.length ? row : null;
  };
  root.addEventListener('pointermove', (event) => stage.sequence.hover(locate(event)));
  root.addEventListener('pointerleave', () => stage.sequence.hover(null));
  root.addEventListener('click', (event) => stage.sequence.pin(locate(event)));

  function draw() {
    const { sequence } = stage;
    const n = sequence.length;
    const lens = sequence.lens;
    const picture = svg('svg', { viewBox: `0 0 ${SIZE} ${SIZE}`, role: 'img' });
    picture.append(svg('path', { d: `M0 0V${SIZE}H${SIZE}Z`, class: 'triangle' }));
    if (n > 0) {
      const at = (token) => (token / n) * SIZE;
      const rect = (from, to, top, bottom, name, least = 1) => {
        picture.append(
          svg('rect', {
            x: at(from),
            y: at(top),
            width: Math.max(least, at(to) - at(from)),
            height: Math.max(0.75, at(bottom) - at(top)),
            class: name,
          }),
        );
      };
      for (const segment of sequence.segments) {
        const { start: s, end: e } = segment;
        const view = sequence.view(s, lens);
        picture.append(
          svg('path', { d: `M${at(s)} ${at(s)}V${at(e)}H${at(e)}Z`, class: 'fill-own' }),
        );
        for (const [from, to] of view.carry) rect(from, to, s, e, 'fill-carry');
        for (const [from, to] of view.retrieved) rect(from, to, s, e, 'fill-retrieved', 1.5);
        for (const [from, to] of view.sinks) rect(from, to, s, e, 'fill-sinks', 3.5);
      }
      const y = at(sequence.query + 0.5);
      picture.append(svg('line', { x1: 0, x2: SIZE, y1: y, y2: y, class: 'row' }));
    }
    const share = workShare(sequence.segments, sequence.contract);
    const cut = sequence.boundaries.length;
    const percent = `${(share * 100).toFixed(share < 0.1 ? 1 : 0)}%`;
    figure.textContent = cut === 0 ? '' : `${percent} of full attention`;
    picture.setAttribute(
      'aria-label',
      n === 0
        ? 'Empty mask'
        : `${n} tokens in ${sequence.segments.length} segments: blocks on the diagonal with a band of sinks and what each segment carries or retrieves; all heads together compute ${percent} of the pairs of full attention`,
    );
    root.replaceChildren(picture);
  }
  return draw;
}
