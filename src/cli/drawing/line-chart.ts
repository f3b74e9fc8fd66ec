// Lines over a common axis as a standalone SVG: what the pictures of numbers are.
import { escapeXml } from './escape-xml.ts';
import { ticks } from './scale.ts';
import { breakLines, heading, textLines, textWidth, wide } from './text-lines.ts';
import { pictureCss, standaloneStyle } from './tokens.ts';

export interface Series {
  label: string;
  /** Ascending x. */
  points: readonly (readonly [number, number])[];
  /** How the model is run: in segments, or with full attention. */
  role: 'segment' | 'full';
  /** Dashed: before training. Faint: single values behind their mean. */
  look?: 'dashed' | 'faint';
}

export interface ChartOptions {
  title: string;
  subtitle?: string;
  xLabel: string;
  yLabel: string;
  series: readonly Series[];
  /** Begin the vertical axis at zero, never logarithmic. */
  zero?: boolean;
  /** Never logarithmic. */
  linear?: boolean;
  /** Text of a tick. */
  xText?: (value: number) => string;
  yText?: (value: number) => string;
  /** A vertical line, such as the length of a training sequence. */
  mark?: { x: number; label: string };
  /** Pixels; the text is as large on a phone. */
  width?: number;
}

/** A vertical axis that spans more than this factor is logarithmic. */
const LOG_FROM = 5;
const SIDE = 20;
/** Few points are shown as dots too. */
const MOST_DOTS = 12;

const style = standaloneStyle(`${pictureCss}
.mark { stroke: var(--strong-line); stroke-dasharray: 2 4; }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
.dashed { stroke-dasharray: 7 5; stroke-linecap: butt; }
.faint { stroke-width: 1; opacity: 0.45; }
.line.segment { stroke: var(--segment); }
.line.full { stroke: var(--full); }
.dot.segment { fill: var(--segment); }
.dot.full { fill: var(--full); }
`);

/**
 * Draw the series over one another.
 *
 * @returns a complete SVG document; its description holds the last value of every series
 */
export function lineChart(options: ChartOptions): string {
  const { title, series, xText = String, yText = String, width = wide } = options;
  const side = width < 480 ? 12 : SIDE;
  const points = series.flatMap((one) => one.points).filter(([, y]) => Number.isFinite(y));
  const xs = extent(points.map(([x]) => x));
  const ys = extent(points.map(([, y]) => y));
  const log = !options.zero && !options.linear && ys[0] > 0 && ys[1] / ys[0] > LOG_FROM;
  const yTicks = log ? logTicks(...ys) : ticks(options.zero ? 0 : ys[0], ys[1], 5);
  const [low, high] = [yTicks[0] ?? 0, yTicks.at(-1) ?? 1];
  const xTicks = ticks(0, xs[1], width < 480 ? 5 : 6).filter((x) => x <= xs[1]);

  const head = heading(title, options.subtitle ?? '', { x: side, width: width - 2 * side });
  const keys = legend(series, side, head.bottom, width - side);
  const left = side + Math.max(...yTicks.map((value) => textWidth(yText(value)))) + 10;
  const right = width - side;
  const top = keys.bottom + 46;
  const bottom = top + (width < 480 ? 190 : 230);
  const xLabel = breakLines(options.xLabel, right - left);
  const height = bottom + 34 + xLabel.length * 18;
  const scale = log ? Math.log : (value: number): number => value;
  const x = (value: number): number => left + (value / (xs[1] || 1)) * (right - left);
  const y = (value: number): number =>
    bottom - ((scale(value) - scale(low)) / (scale(high) - scale(low) || 1)) * (bottom - top);
  const last = series
    .map(({ label, points: own }) => `${label} ${own.length === 0 ? '' : yText(lastOf(own))}`)
    .join(', ');
  const across = (name: string, at: number): string =>
    `<line class="${name}" x1="${left.toFixed(1)}" x2="${right}" y1="${at.toFixed(1)}" y2="${at.toFixed(1)}"/>`;

  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escapeXml(`${title}: ${last}`)}">
<style>${style}</style>
${head.svg}
${keys.svg}
${textLines([options.yLabel + (log ? ' (logarithmic)' : '')], { x: side, y: top - 20 })}
${yTicks
  .map(
    (value) =>
      across('grid', y(value)) +
      textLines([yText(value)], { x: left - 10, y: y(value) + 4, name: 'muted', anchor: 'end' }),
  )
  .join('\n')}
${xTicks
  .map(
    (value) =>
      `<line class="axis" x1="${x(value).toFixed(1)}" x2="${x(value).toFixed(1)}" y1="${bottom}" y2="${bottom + 5}"/>` +
      textLines([xText(value)], {
        ...{ x: x(value), y: bottom + 21, name: 'muted' },
        anchor: right - x(value) < textWidth(xText(value)) / 2 - side ? 'end' : 'middle',
      }),
  )
  .join('\n')}
${across('axis', bottom)}
${options.mark === undefined || options.mark.x > xs[1] ? '' : mark(x(options.mark.x), options.mark.label, { left, right, top, bottom })}
${series.map((one) => line(one, x, y)).join('\n')}
${textLines(xLabel, { x: (left + right) / 2, y: bottom + 43, anchor: 'middle' })}
</svg>
`;
}

function lastOf(points: Series['points']): number {
  return points.at(-1)?.[1] ?? Number.NaN;
}

function line(one: Series, x: (v: number) => number, y: (v: number) => number): string {
  const at = one.points
    .filter(([, value]) => Number.isFinite(value))
    .map(([px, py]) => [x(px).toFixed(1), y(py).toFixed(1)]);
  if (at.length === 0) return '';
  const dots =
    at.length > MOST_DOTS
      ? ''
      : at.map(([px, py]) => `<circle class="dot ${one.role}" cx="${px}" cy="${py}" r="3.5"/>`);
  return (
    `<polyline class="${nameOf(one)}" points="${at.map((pair) => pair.join()).join(' ')}"/>` +
    `${dots === '' ? '' : dots.join('')}`
  );
}

const nameOf = ({ role, look }: Series): string =>
  `line ${role}${look === undefined ? '' : ` ${look}`}`;

/** A line and a word for each series, in as many rows as they need. */
function legend(
  series: readonly Series[],
  left: number,
  top: number,
  right: number,
): { svg: string; bottom: number } {
  let at = left;
  let y = top + 16;
  const items = series.map((one) => {
    const width = 32 + textWidth(one.label);
    if (at > left && at + width > right) {
      at = left;
      y += 20;
    }
    const item =
      `<g transform="translate(${at.toFixed(1)} ${y})">` +
      `<line class="${nameOf(one)}" x1="1" x2="25" y1="-4" y2="-4"/>` +
      `<text x="32" y="0">${escapeXml(one.label)}</text></g>`;
    at += width + 18;
    return item;
  });
  return { svg: items.join(''), bottom: series.length === 0 ? top : y };
}

function mark(
  at: number,
  label: string,
  box: { left: number; right: number; top: number; bottom: number },
): string {
  const turned = at + 6 + textWidth(label) > box.right;
  return (
    `<line class="mark" x1="${at.toFixed(1)}" x2="${at.toFixed(1)}" y1="${box.top}" y2="${box.bottom}"/>` +
    textLines([label], {
      ...{ x: at + (turned ? -6 : 6), y: box.top - 3, name: 'muted' },
      anchor: turned ? 'end' : 'start',
    })
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
