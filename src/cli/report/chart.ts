// Lines over a common axis as a standalone SVG: what the report's pictures of numbers are.

import { escapeXml } from '../drawing/escape-xml.ts';
import { ticks } from '../drawing/scale.ts';

export interface Series {
  label: string;
  /** Ascending x. */
  points: readonly (readonly [number, number])[];
  /** Which of the palette's colours, and whether its line is dashed. */
  color: 0 | 1 | 2 | 3;
  dashed?: boolean;
}

export interface ChartOptions {
  title: string;
  xLabel: string;
  yLabel: string;
  series: readonly Series[];
  /** Begin the vertical axis at zero. */
  zero?: boolean;
  /** Text of a tick. */
  xText?: (value: number) => string;
  yText?: (value: number) => string;
  /** A vertical line, such as the length of a training sequence. */
  mark?: { x: number; label: string };
}

const WIDTH = 800;
const HEIGHT = 440;
const BOX = { left: 84, right: 28, top: 92, bottom: 62 } as const;
const LETTER = 6.9; // mean width of a letter at 13px
/** A vertical axis that spans more than this factor is logarithmic. */
const LOG_FROM = 5;

/** Colours of text, grid and lines, light and dark; other pictures of the report use them too. */
export const chartStyle = `
  svg { background: #fff; color: #1d2733; font: 13px system-ui, sans-serif; }
  text { fill: currentColor; } .title { font-size: 18px; font-weight: 600; } text.muted { fill: #5c6b7a; }
  .grid { stroke: #e3e8ee; } .axis { stroke: #8593a1; } .mark { stroke: #8593a1; stroke-dasharray: 2 4; }
  .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; } .dashed { stroke-dasharray: 7 5; }
  .s0 { stroke: #66727f; } .s1 { stroke: #c2570c; } .s2 { stroke: #1f5fa8; } .s3 { stroke: #0f8a6d; }
  .dot { stroke: none; } .dot.s0 { fill: #66727f; } .dot.s1 { fill: #c2570c; } .dot.s2 { fill: #1f5fa8; } .dot.s3 { fill: #0f8a6d; }
  @media (prefers-color-scheme: dark) {
    svg { background: #12181f; color: #e6edf3; }
    text.muted { fill: #9aa7b4; } .grid { stroke: #26303a; } .axis, .mark { stroke: #5c6b7a; }
    .s0 { stroke: #a9b4bf; } .s1 { stroke: #f0944d; } .s2 { stroke: #6fb1ff; } .s3 { stroke: #4fd1b0; }
    .dot.s0 { fill: #a9b4bf; } .dot.s1 { fill: #f0944d; } .dot.s2 { fill: #6fb1ff; } .dot.s3 { fill: #4fd1b0; }
  }`;

/**
 * Draw the series over one another.
 *
 * @returns a complete SVG document; its description holds the last value of every series
 */
export function lineChart(options: ChartOptions): string {
  const { title, series, xText = String, yText = String } = options;
  const points = series.flatMap((one) => one.points).filter(([, y]) => Number.isFinite(y));
  const xs = extent(points.map(([x]) => x));
  const ys = extent(points.map(([, y]) => y));
  const log = options.zero !== true && ys[0] > 0 && ys[1] / ys[0] > LOG_FROM;
  const yTicks = log ? logTicks(...ys) : ticks(options.zero ? 0 : ys[0], ys[1], 5);
  const [low, high] = [yTicks[0] ?? 0, yTicks.at(-1) ?? 1];
  const xTicks = ticks(0, xs[1], 6).filter((x) => x <= xs[1]);
  const scale = log ? Math.log : (value: number): number => value;
  const x = (value: number): number =>
    BOX.left + (value / (xs[1] || 1)) * (WIDTH - BOX.left - BOX.right);
  const y = (value: number): number =>
    HEIGHT -
    BOX.bottom -
    ((scale(value) - scale(low)) / (scale(high) - scale(low) || 1)) *
      (HEIGHT - BOX.top - BOX.bottom);
  const bottom = HEIGHT - BOX.bottom;
  const last = series
    .map(({ label, points: own }) => `${label} ${yText(own.at(-1)?.[1] ?? Number.NaN)}`)
    .join(', ');

  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="${escapeXml(`${title}: ${last}`)}">
<style>${chartStyle}</style>
<text class="title" x="24" y="32">${escapeXml(title)}</text>
${legend(series)}
${yTicks
  .map(
    (value) =>
      `<line class="grid" x1="${BOX.left}" x2="${WIDTH - BOX.right}" y1="${y(value).toFixed(1)}" y2="${y(value).toFixed(1)}"/>` +
      `<text class="muted" x="${BOX.left - 10}" y="${(y(value) + 4).toFixed(1)}" text-anchor="end">${escapeXml(yText(value))}</text>`,
  )
  .join('\n')}
${xTicks
  .map(
    (value) =>
      `<line class="axis" x1="${x(value).toFixed(1)}" x2="${x(value).toFixed(1)}" y1="${bottom}" y2="${bottom + 5}"/>` +
      `<text class="muted" x="${x(value).toFixed(1)}" y="${bottom + 21}" text-anchor="middle">${escapeXml(xText(value))}</text>`,
  )
  .join('\n')}
<line class="axis" x1="${BOX.left}" x2="${WIDTH - BOX.right}" y1="${bottom}" y2="${bottom}"/>
${options.mark === undefined || options.mark.x > xs[1] ? '' : mark(x(options.mark.x), options.mark.label)}
${series.map((one) => line(one, x, y)).join('\n')}
<text x="${(BOX.left + WIDTH - BOX.right) / 2}" y="${HEIGHT - 14}" text-anchor="middle">${escapeXml(options.xLabel)}</text>
<text transform="translate(20 ${(BOX.top + bottom) / 2}) rotate(-90)" text-anchor="middle">${escapeXml(options.yLabel + (log ? ' (logarithmic)' : ''))}</text>
</svg>
`;
}

function line(one: Series, x: (v: number) => number, y: (v: number) => number): string {
  const at = one.points
    .filter(([, value]) => Number.isFinite(value))
    .map(([px, py]) => [x(px).toFixed(1), y(py).toFixed(1)]);
  const dots =
    at.length > 12
      ? ''
      : at.map(([px, py]) => `<circle class="dot s${one.color}" cx="${px}" cy="${py}" r="4"/>`);
  return (
    `<polyline class="line s${one.color}${one.dashed ? ' dashed' : ''}" points="${at.map((pair) => pair.join()).join(' ')}"/>` +
    `${dots === '' ? '' : dots.join('')}`
  );
}

function legend(series: readonly Series[]): string {
  let left = 24;
  return series
    .map(({ label, color, dashed }) => {
      const item =
        `<g transform="translate(${left.toFixed(0)} 60)">` +
        `<line class="line s${color}${dashed ? ' dashed' : ''}" x1="0" x2="26" y1="-4" y2="-4"/>` +
        `<text x="32" y="0">${escapeXml(label)}</text></g>`;
      left += 32 + label.length * LETTER + 18;
      return item;
    })
    .join('');
}

function mark(at: number, label: string): string {
  return (
    `<line class="mark" x1="${at.toFixed(1)}" x2="${at.toFixed(1)}" y1="${BOX.top}" y2="${HEIGHT - BOX.bottom}"/>` +
    `<text class="muted" x="${(at + 5).toFixed(1)}" y="${BOX.top + 8}">${escapeXml(label)}</text>`
  );
}

/** 1, 2 and 5 times powers of ten that enclose the values. */
function logTicks(low: number, high: number): number[] {
  const all = Array.from({ length: 40 }, (_, i) => i - 20).flatMap((power) =>
    [1, 2, 5].map((unit) => Number((unit * 10 ** power).toPrecision(12))),
  );
  const first = all.findLastIndex((value) => value <= low);
  const last = all.findIndex((value) => value >= high);
  return all.slice(Math.max(0, first), last + 1);
}

function extent(values: readonly number[]): [number, number] {
  return values.reduce<[number, number]>(
    ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
    values.length === 0 ? [0, 1] : [values[0] as number, values[0] as number],
  );
}
