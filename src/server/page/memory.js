// Memory held between steps against what full attention would hold, now and over the sequence.
import { byId, h, svg } from './dom.js';
import { bytes, memoryAt, number, segmentAt } from './model.js';

const PARTS = [
  ['sinks', 'sinks'],
  ['carry', 'carry'],
  ['retrieved', 'retrieved'],
  ['pool', 'pool'],
  ['open', 'open segment'],
];
const WIDTH = 320;
const HEIGHT = 150;
const SAMPLES = 160;

export function makeMemory(stage) {
  const root = byId('memory');
  const figure = byId('saving');
  // The bars stay and change their width, so that growth is seen as movement.
  const bars = PARTS.map(([part]) => h('i', { class: `role-${part}`, 'data-part': part }));
  const full = h('i', { class: 'role-full' });
  const heldLabel = h('b', { id: 'held' }, '0 B');
  const fullLabel = h('b', { id: 'full' }, '0 B');
  const parts = h('div', { class: 'parts' });
  const chart = h('div', { class: 'chart' });
  const source = h('p', { class: 'small' });
  root.replaceChildren(
    h(
      'div',
      { class: 'bar-row' },
      h('div', { class: 'label' }, h('span', {}, 'Segmented holds'), heldLabel),
      h('div', { class: 'bar', id: 'bar-held' }, ...bars),
      h('div', { class: 'label' }, h('span', {}, 'Full attention would hold'), fullLabel),
      h('div', { class: 'bar', id: 'bar-full' }, full),
    ),
    parts,
    chart,
    source,
  );

  function now(sequence) {
    if (sequence.memory !== null) return sequence.memory;
    const n = sequence.length;
    const start = n === 0 ? 0 : segmentAt(sequence.segments, n - 1).start;
    return memoryAt(n, start, sequence.contract);
  }

  function series(sequence) {
    if (sequence.ran && sequence.memory !== null) return sequence.history;
    const n = sequence.length;
    const points = [];
    const stops = new Set(sequence.boundaries);
    for (let i = 0; i <= SAMPLES; i++) stops.add(Math.round((i / SAMPLES) * n));
    for (const position of [...stops].filter((p) => p > 0).sort((a, b) => a - b)) {
      const { start } = segmentAt(sequence.segments, position - 1);
      const before = memoryAt(position, start, sequence.contract);
      points.push([position, before.total, before.fullAttention]);
      if (sequence.boundaries.includes(position) && position < n) {
        const after = memoryAt(position, position, sequence.contract);
        points.push([position, after.total, after.fullAttention]);
      }
    }
    return points;
  }

  function draw() {
    const { sequence } = stage;
    const memory = now(sequence);
    const most = Math.max(memory.total, memory.fullAttention, 1);
    bars.forEach((bar, i) => {
      bar.style.width = `${(100 * memory[PARTS[i][0]]) / most}%`;
    });
    full.style.width = `${(100 * memory.fullAttention) / most}%`;
    heldLabel.textContent = bytes(memory.total);
    fullLabel.textContent = bytes(memory.fullAttention);
    parts.replaceChildren(
      ...PARTS.filter(([part]) => memory[part] > 0).map(([part, words]) =>
        h('span', {}, h('span', { class: `dot role-${part}` }), `${words} ${bytes(memory[part])}`),
      ),
    );
    const ratio = memory.total === 0 ? 1 : memory.fullAttention / memory.total;
    figure.textContent =
      sequence.length === 0
        ? ''
        : ratio >= 1.05
          ? `${ratio.toFixed(1)}× less`
          : ratio <= 0.95
            ? `${(1 / ratio).toFixed(1)}× more, so far`
            : 'the same, so far';
    source.textContent =
      sequence.length === 0
        ? ''
        : sequence.ran
          ? sequence.memory === null
            ? 'Computed from the contract; the engine does not report memory per request.'
            : 'Measured in the running session.'
          : 'Computed from the contract; nothing has run.';
    drawChart(series(sequence));
  }

  function drawChart(points) {
    if (points.length < 2) {
      chart.replaceChildren();
      return;
    }
    const last = points[points.length - 1][0];
    const top = Math.max(...points.map(([, held, whole]) => Math.max(held, whole)));
    const x = (position) => (position / last) * WIDTH;
    const y = (value) => HEIGHT - 15 - (value / top) * (HEIGHT - 22);
    const path = (column) =>
      `M0 ${y(0)}${points.map((p) => `L${x(p[0]).toFixed(1)} ${y(p[column]).toFixed(1)}`).join('')}`;
    chart.replaceChildren(
      h('div', { class: 'label most' }, h('span', {}, bytes(top))),
      svg(
        'svg',
        {
          viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
          preserveAspectRatio: 'none',
          role: 'img',
          'aria-label': `Memory over ${last} tokens: full attention grows in a line to ${bytes(points[points.length - 1][2])}, segmented ends at ${bytes(points[points.length - 1][1])}`,
        },
        svg('line', { x1: 0, x2: WIDTH, y1: y(0), y2: y(0), class: 'axis' }),
        svg('path', { d: `${path(1)}L${WIDTH} ${y(0)}Z`, class: 'area-held' }),
        svg('path', { d: path(2), class: 'line-full', 'vector-effect': 'non-scaling-stroke' }),
        svg('path', { d: path(1), class: 'line-held', 'vector-effect': 'non-scaling-stroke' }),
      ),
      h(
        'div',
        { class: 'label' },
        h('span', {}, h('span', { class: 'dot role-own' }), 'segmented'),
        h('span', {}, h('span', { class: 'dot role-full' }), 'full attention'),
        h('span', {}, `after ${number(last)} tokens`),
      ),
    );
  }
  return draw;
}
