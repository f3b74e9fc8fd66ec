// The grids of all rows as one standalone SVG, and the heads that held facts as another.
import { escapeXml } from '../drawing/escape-xml.ts';
import { thousands } from '../plan/segment-map.ts';
import { gridOf, labelOf, shadeOf, shades, shownRows } from './grid.ts';
import type { RecallResult } from './run.ts';

const [LEFT, TOP, WIDTH, HEIGHT, GAP] = [24, 96, 54, 26, 40] as const;

const style = `
  svg { background: #fff; color: #1d2733; font: 13px system-ui, sans-serif; }
  .title { font-size: 18px; font-weight: 600; }
  text { fill: currentColor; } text.muted { fill: #5c6b7a; } text.on { fill: #fff; }
  .none { fill: #eef2f6; }
  @media (prefers-color-scheme: dark) {
    svg { background: #12181f; color: #e6edf3; } text.muted { fill: #9aa7b4; } .none { fill: #1d2630; }
  }`;

/** A panel for each row: lengths downwards, depths from left to right. */
export function gridSvg(result: Pick<RecallResult, 'asked' | 'rows'>): string {
  const { lengths, depths } = result.asked;
  const rows = shownRows(result);
  const panelWidth = 64 + depths.length * WIDTH;
  const panelHeight = 46 + lengths.length * HEIGHT + GAP;
  const columns = Math.max(1, Math.min(2, rows.length));
  const width = Math.max(640, 2 * LEFT + columns * (panelWidth + GAP) - GAP);
  const height = TOP + Math.ceil(rows.length / columns) * panelHeight;
  const panels = rows.map((row, i) => {
    const [x, y] = [
      LEFT + (i % columns) * (panelWidth + GAP),
      TOP + Math.floor(i / columns) * panelHeight,
    ];
    const cells = gridOf(row, lengths, depths).flatMap((line, at) =>
      line.map((share, column) =>
        cell(share, column, at, lengths[at] as number, depths[column] as number),
      ),
    );
    const names = lengths.map(
      (length, at) =>
        `<text class="muted" x="56" y="${28 + at * HEIGHT + 17}" text-anchor="end">${thousands(length)}</text>`,
    );
    const places = depths.map(
      (depth, column) =>
        `<text class="muted" x="${64 + column * WIDTH + WIDTH / 2}" y="${28 + lengths.length * HEIGHT + 16}" text-anchor="middle">${depth}</text>`,
    );
    return `<g transform="translate(${x} ${y})"><text x="0" y="14">${escapeXml(labelOf(row))}</text>${[...names, ...cells, ...places].join('')}</g>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="Share of facts recalled by length and depth: ${escapeXml(rows.map(labelOf).join('; '))}">
<style>${style}</style>
<text class="title" x="${LEFT}" y="32">What is found again</text>
<text class="muted" x="${LEFT}" y="54">Share of facts recalled. Downwards: tokens of the text. Left to right: where in it the fact is.</text>
${legend()}
${panels.join('\n')}
</svg>
`;
}

function cell(
  share: number | null,
  column: number,
  at: number,
  length: number,
  depth: number,
): string {
  const [x, y] = [64 + column * WIDTH, 28 + at * HEIGHT];
  const box = `x="${x}" y="${y}" width="${WIDTH - 2}" height="${HEIGHT - 2}" rx="3"`;
  if (share === null) return `<rect class="none" ${box}/>`;
  const text = `${Math.round(100 * share)}%`;
  return (
    `<g><title>${thousands(length)} tokens, depth ${depth}: ${text}</title><rect fill="${shadeOf(share)}" ${box}/>` +
    `<text class="on" x="${x + WIDTH / 2 - 1}" y="${y + 17}" text-anchor="middle">${text}</text></g>`
  );
}

function legend(): string {
  const steps = shades.map(
    (fill, i) => `<rect fill="${fill}" x="${LEFT + 44 + 18 * i}" y="66" width="16" height="12"/>`,
  );
  return `<text class="muted" x="${LEFT}" y="77">none</text>${steps.join('')}<text class="muted" x="${LEFT + 48 + 18 * shades.length}" y="77">all</text>`;
}
