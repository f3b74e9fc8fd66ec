// Where retrieved rows came from: one panel a layer, boundaries downwards, the text from left to right.
import { escapeXml } from '../drawing/escape-xml.ts';
import { breakLines, heading, textLines, wide } from '../drawing/text-lines.ts';
import { pictureCss, standaloneStyle } from '../drawing/tokens.ts';
import type { ReportData, RetrievalMap } from './data.ts';

const GAP = 28;
const LEVELS = 8;
const MOST_ROWS = 40;
/** Panels are not narrower than this. */
const LEAST = 170;

const style = standaloneStyle(`${pictureCss}
.seen { fill: var(--faint); }
.retrieved { fill: var(--retrieved); }
.frame { fill: none; stroke: var(--strong-line); stroke-width: 0.5; }
`);

/** The maps of all layers as one SVG document, so many pixels wide. */
export function retrievalMapsSvg(
  retrieved: NonNullable<ReportData['retrieved']>,
  across: number = wide,
): string {
  const side = across < 480 ? 12 : 20;
  const room = across - 2 * side;
  const most = Math.floor((room + GAP) / (LEAST + GAP));
  // As many in each row, not three and one.
  const columns = Math.ceil(retrieved.maps.length / Math.ceil(retrieved.maps.length / most));
  const width = (room - (columns - 1) * GAP) / columns;
  const rows = Math.min(MOST_ROWS, retrieved.boundaries.length);
  const height = Math.min(200, Math.max(60, rows * 9));
  const pitch = height + 84;
  const title = 'Where retrieved rows come from';
  const head = heading(
    title,
    `Left to right: the text. Downwards: boundaries, as they come. A cell: how much of ${retrieved.bin} tokens was retrieved.`,
    { x: side, width: room },
  );
  const top = head.bottom + 72;
  const bottom = top + Math.ceil(retrieved.maps.length / columns) * pitch - 48;
  const panels = retrieved.maps.map((map, i) => {
    const left = side + (i % columns) * (width + GAP);
    const y = top + Math.floor(i / columns) * pitch;
    return `<g transform="translate(${left.toFixed(1)} ${y})">${panel(map, retrieved, width, height)}</g>`;
  });
  const layers = retrieved.maps.map(({ layer }) => layer).join(', ');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${across} ${bottom}" width="${across}" height="${bottom}" role="img" aria-label="${escapeXml(`${title}, layers ${layers}`)}">
<style>${style}</style>
${head.svg}
${scale(side, head.bottom + 8)}
${panels.join('\n')}
</svg>
`;
}

function panel(
  map: RetrievalMap,
  retrieved: NonNullable<ReportData['retrieved']>,
  width: number,
  height: number,
): string {
  const shown = downsample(map.rows);
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
        : `<path class="seen" d="${path}"/><path class="retrieved" opacity="${opacity(level)}" d="${path}"/>`,
  );
  const back =
    map.back === null
      ? []
      : breakLines(`median ${Math.round(map.back)} tokens back`, width + GAP - 4).slice(0, 1);
  const end = retrieved.bin * Math.max(0, ...map.rows.map((row) => row.length));
  return (
    `${textLines([`Layer ${map.layer}`], { x: 0, y: -26 })}${textLines(back, { x: 0, y: -8, name: 'muted' })}${drawn.join('')}` +
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
function downsample<Row>(rows: readonly Row[]): Row[] {
  if (rows.length <= MOST_ROWS) return [...rows];
  const step = (rows.length - 1) / (MOST_ROWS - 1);
  return Array.from({ length: MOST_ROWS }, (_, i) => rows[Math.round(i * step)] as Row);
}

function opacity(level: number): string {
  return (0.12 + (0.88 * level) / LEVELS).toFixed(2);
}

/** What the strength of a cell means. */
function scale(x: number, y: number): string {
  const cells = Array.from(
    { length: LEVELS },
    (_, i) =>
      `<rect class="seen" x="${(i + 1) * 18}" width="16" height="12"/>` +
      `<rect class="retrieved" opacity="${opacity(i + 1)}" x="${(i + 1) * 18}" width="16" height="12"/>`,
  ).join('');
  return `<g transform="translate(${x + 42} ${y})"><text class="muted" x="-42" y="11">none</text><rect class="seen" width="16" height="12"/>${cells}<text class="muted" x="${(LEVELS + 1) * 18 + 6}" y="11">all of it</text></g>`;
}
