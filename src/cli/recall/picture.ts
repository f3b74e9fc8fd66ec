// The grids of all rows as one standalone SVG.
import { escapeXml } from '../drawing/escape-xml.ts';
import { breakLines, heading, textLines, textWidth, wide } from '../drawing/text-lines.ts';
import { pictureCss, standaloneStyle } from '../drawing/tokens.ts';
import { thousands } from '../plan/segment-map.ts';
import { gridOf, labelOf, shadeOf, shades, shownRows } from './grid.ts';
import type { RecallResult } from './run.ts';

const GAP = 32;
const HEIGHT = 28;
/** Panels stand side by side where their cells are not narrower than this. */
const LEAST_BESIDE = 40;
const MOST_WIDTH = 72;
/** Narrower cells hold the number alone; the legend says what it is. */
const LEAST_PERCENT = 38;
const LEAST_NUMBER = 22;

const style = standaloneStyle(`${pictureCss}
.on { fill: var(--on-share); font-weight: 600; }
.none { fill: var(--inset); stroke: var(--line); }
.small { font-size: 10.5px; }
`);

/** A panel for each row: lengths downwards, depths from left to right. */
export function gridSvg(
  result: Pick<RecallResult, 'asked' | 'rows'>,
  width: number = wide,
): string {
  const { lengths, depths } = result.asked;
  const rows = shownRows(result);
  const side = width < 480 ? 12 : 20;
  const room = width - 2 * side;
  const left = 8 + Math.max(0, ...lengths.map((length) => textWidth(thousands(length))));
  const cellWidth = (columns: number): number =>
    Math.min(
      MOST_WIDTH,
      ((room - (columns - 1) * GAP) / columns - left) / Math.max(1, depths.length),
    );
  const columns = rows.length > 1 && cellWidth(2) >= LEAST_BESIDE ? 2 : 1;
  const cells = cellWidth(columns);
  const panelWidth = columns === 2 ? (room - GAP) / 2 : room;
  const words =
    'Share of the needles asked for. Downwards: tokens of the text. Left to right: where in the text the needle is, 0 beginning, 1 end.';
  const head = heading('Needles recalled', words, {
    x: side,
    width: room,
  });
  const top = head.bottom + 44;
  const labels = rows.map((row) => breakLines(labelOf(row), panelWidth));
  const above = Math.max(0, ...labels.map((lines) => lines.length)) * 18 + 8;
  const pitch = above + lengths.length * HEIGHT + 52;
  const height = top + Math.ceil(rows.length / columns) * pitch - 16;
  const panels = rows.map((row, i) => {
    const x = side + (i % columns) * (panelWidth + GAP);
    const y = top + Math.floor(i / columns) * pitch;
    const drawn = gridOf(row, lengths, depths).flatMap((line, at) =>
      line.map((share, column) =>
        cell(share, {
          ...{ x: left + column * cells, y: above + at * HEIGHT, width: cells },
          title: `${thousands(lengths[at] as number)} tokens, depth ${depths[column]}`,
        }),
      ),
    );
    const names = lengths.map((length, at) =>
      textLines([thousands(length)], {
        ...{ x: left - 8, y: above + at * HEIGHT + 18, name: 'muted', anchor: 'end' },
      }),
    );
    const under = above + lengths.length * HEIGHT + 16;
    const every = Math.ceil(34 / cells);
    const places = depths.map((depth, column) =>
      column % every === 0
        ? textLines([`${depth}`], {
            ...{ x: left + (column + 0.5) * cells, y: under, name: 'muted', anchor: 'middle' },
          })
        : '',
    );
    return `<g transform="translate(${x.toFixed(1)} ${y})">${textLines(labels[i] as string[], { x: 0, y: 14 })}${[...names, ...drawn, ...places].join('')}</g>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="Share of needles recalled by length and depth: ${escapeXml(rows.map(labelOf).join('; '))}">
<style>${style}</style>
${head.svg}
${legend(side, head.bottom)}
${panels.join('\n')}
</svg>
`;
}

function cell(
  share: number | null,
  at: { x: number; y: number; width: number; title: string },
): string {
  const box = `x="${at.x.toFixed(1)}" y="${at.y}" width="${(at.width - 2).toFixed(1)}" height="${HEIGHT - 2}" rx="3"`;
  if (share === null) return `<rect class="none" ${box}/>`;
  const number = `${Math.round(100 * share)}`;
  const text = at.width >= LEAST_PERCENT ? `${number}%` : at.width >= LEAST_NUMBER ? number : '';
  const shown =
    text === ''
      ? ''
      : `<text class="on${at.width < 34 ? ' small' : ''}" x="${(at.x + at.width / 2 - 1).toFixed(1)}" y="${at.y + 18}" text-anchor="middle">${text}</text>`;
  return `<g><title>${at.title}: ${number}%</title><rect fill="${shadeOf(share)}" ${box}/>${shown}</g>`;
}

function legend(x: number, y: number): string {
  const steps = shades.map(
    (fill, i) =>
      `<rect fill="${fill}" x="${x + 28 + 18 * i}" y="${y + 6}" width="16" height="12"/>`,
  );
  const end = x + 32 + 18 * shades.length;
  return (
    textLines(['0%'], { x, y: y + 17, name: 'muted' }) +
    steps.join('') +
    textLines(['100%'], { x: end, y: y + 17, name: 'muted' })
  );
}
