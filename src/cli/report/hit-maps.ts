// Where retrieved rows came from: one panel a layer, boundaries downwards, the text from left to right.
import { escapeXml } from '../drawing/escape-xml.ts';
import { chartStyle } from './chart.ts';
import type { HitMap, ReportData } from './data.ts';

const WIDTH = 800;
const GAP = 28;
const SIDE = 24;
const TOP = 96;
const LEVELS = 8;
const MOST_ROWS = 40;

const style = `${chartStyle}
  .seen { fill: #eef1f4; } .hit { fill: #1f5fa8; } .frame { fill: none; stroke: #8593a1; stroke-width: .5; }
  @media (prefers-color-scheme: dark) {
    .seen { fill: #1c242d; } .hit { fill: #6fb1ff; } .frame { stroke: #5c6b7a; }
  }`;

/** The maps of all layers as one SVG document. */
export function hitMapsSvg(hits: NonNullable<ReportData['hits']>): string {
  const columns = Math.min(3, hits.maps.length);
  const width = (WIDTH - 2 * SIDE - (columns - 1) * GAP) / columns;
  const rows = Math.min(MOST_ROWS, hits.boundaries.length);
  const height = Math.min(200, Math.max(60, rows * 9));
  const pitch = height + 52;
  const bottom = TOP + Math.ceil(hits.maps.length / columns) * pitch;
  const panels = hits.maps.map((map, i) => {
    const left = SIDE + (i % columns) * (width + GAP);
    const top = TOP + Math.floor(i / columns) * pitch;
    return `<g transform="translate(${left.toFixed(1)} ${top})">${panel(map, hits, width, height)}</g>`;
  });
  const layers = hits.maps.map(({ layer }) => layer).join(', ');
  const title = 'Where retrieved rows come from';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${bottom}" width="${WIDTH}" height="${bottom}" role="img" aria-label="${escapeXml(`${title}, layers ${layers}`)}">
<style>${style}</style>
<text class="title" x="${SIDE}" y="32">${title}</text>
<text class="muted" x="${SIDE}" y="56">Left to right: the text. Downwards: boundaries, as they come. Each cell: how much of ${hits.bin} tokens was retrieved.</text>
${scale()}
${panels.join('\n')}
</svg>
`;
}

function panel(
  map: HitMap,
  hits: NonNullable<ReportData['hits']>,
  width: number,
  height: number,
): string {
  const shown = thin(map.rows);
  const cellHeight = height / shown.length;
  const cellWidth = width / Math.max(1, ...shown.map((row) => row.length));
  const paths = Array.from({ length: LEVELS + 1 }, () => '');
  shown.forEach((row, at) => {
    runs(row).forEach(({ level, from, to }) => {
      const box = `M${(from * cellWidth).toFixed(1)} ${(at * cellHeight).toFixed(1)}h${((to - from) * cellWidth).toFixed(1)}v${cellHeight.toFixed(1)}h-${((to - from) * cellWidth).toFixed(1)}z`;
      paths[level] += box;
    });
  });
  const drawn = paths.map((path, level) =>
    path === ''
      ? ''
      : level === 0
        ? `<path class="seen" d="${path}"/>`
        : `<path class="seen" d="${path}"/><path class="hit" opacity="${opacity(level)}" d="${path}"/>`,
  );
  const back = map.back === null ? '' : `, median ${Math.round(map.back)} tokens back`;
  const end = hits.bin * Math.max(0, ...map.rows.map((row) => row.length));
  return (
    `<text x="0" y="-8">Layer ${map.layer}${back}</text>${drawn.join('')}` +
    `<rect class="frame" width="${width.toFixed(1)}" height="${height}"/>` +
    `<text class="muted" x="0" y="${height + 16}">0</text>` +
    `<text class="muted" x="${width.toFixed(1)}" y="${height + 16}" text-anchor="end">${end.toLocaleString('en-US')} tokens</text>`
  );
}

/** Neighbouring cells of one level together; what lies behind the boundary is left out. */
function runs(row: readonly (number | null)[]): { level: number; from: number; to: number }[] {
  const out: { level: number; from: number; to: number }[] = [];
  row.forEach((value, at) => {
    if (value === null) return;
    const level = value === 0 ? 0 : Math.max(1, Math.ceil(Math.min(1, value) * LEVELS));
    const last = out.at(-1);
    if (last?.level === level && last.to === at) last.to = at + 1;
    else out.push({ level, from: at, to: at + 1 });
  });
  return out;
}

/** At most so many rows, evenly taken, the last one among them. */
function thin<Row>(rows: readonly Row[]): Row[] {
  if (rows.length <= MOST_ROWS) return [...rows];
  const step = (rows.length - 1) / (MOST_ROWS - 1);
  return Array.from({ length: MOST_ROWS }, (_, i) => rows[Math.round(i * step)] as Row);
}

function opacity(level: number): string {
  return (0.12 + (0.88 * level) / LEVELS).toFixed(2);
}

function scale(): string {
  const cells = Array.from(
    { length: LEVELS },
    (_, i) =>
      `<rect class="hit" opacity="${opacity(i + 1)}" x="${i * 16}" width="16" height="10"/>`,
  ).join('');
  return `<g transform="translate(${WIDTH - SIDE - 200} 22)"><text class="muted" x="-8" y="9" text-anchor="end">none</text>${cells}<text class="muted" x="${LEVELS * 16 + 8}" y="9">all of it</text></g>`;
}
