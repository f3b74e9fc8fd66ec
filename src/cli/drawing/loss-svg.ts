// The loss curve of a training as a standalone SVG.
import { escapeXml } from './escape-xml.ts';
import { type CurvePoint, short, smooth, smoothingWidth, thin, ticks } from './scale.ts';

export interface LossPlotOptions {
  title: string;
  /** Second line, such as the model and the budget. */
  subtitle?: string;
}

const WIDTH = 800;
const HEIGHT = 450;
const BOX = { left: 72, right: 24, top: 76, bottom: 60 } as const;
const POINTS = 1600;

const style = `
  svg { background: #fff; color: #1d2733; font: 13px system-ui, sans-serif; }
  .title { font-size: 18px; font-weight: 600; } .muted { fill: #5c6b7a; }
  .grid { stroke: #e3e8ee; } .axis { stroke: #8593a1; }
  .raw { stroke: #9db7d5; stroke-width: 1; } .mean { stroke: #1f5fa8; stroke-width: 2.5; }
  .raw, .mean { fill: none; stroke-linejoin: round; }
  text { fill: currentColor; } text.muted { fill: #5c6b7a; }
  @media (prefers-color-scheme: dark) {
    svg { background: #12181f; color: #e6edf3; }
    text.muted { fill: #9aa7b4; } .grid { stroke: #26303a; } .axis { stroke: #5c6b7a; }
    .raw { stroke: #3b5878; } .mean { stroke: #6fb1ff; }
  }`;

/**
 * Draw losses over optimizer steps: every step thin, their running mean thick.
 *
 * @param points the curve so far, ascending steps; may be empty
 * @returns a complete SVG document
 */
export function lossSvg(points: readonly CurvePoint[], options: LossPlotOptions): string {
  const shown = points.filter((point) => Number.isFinite(point.loss));
  const width = smoothingWidth(shown.length);
  const means = smooth(
    shown.map((point) => point.loss),
    width,
  ).map((loss, i) => ({ step: (shown[i] as CurvePoint).step, loss }));
  const losses = shown.length === 0 ? [0, 1] : shown.map((point) => point.loss);
  const last = shown.at(-1)?.step ?? 1;
  const yTicks = ticks(minimum(losses), maximum(losses), 5);
  const xTicks = ticks(0, last, 6).filter((step) => step <= last && Number.isInteger(step));
  const [low, high] = [yTicks[0] as number, yTicks.at(-1) as number];
  const x = (step: number): number => BOX.left + (step / last) * (WIDTH - BOX.left - BOX.right);
  const y = (loss: number): number =>
    HEIGHT - BOX.bottom - ((loss - low) / (high - low)) * (HEIGHT - BOX.top - BOX.bottom);
  const line = (kind: string, curve: readonly CurvePoint[]): string =>
    curve.length === 0
      ? ''
      : `<polyline class="${kind}" points="${thin(curve, POINTS)
          .map((point) => `${x(point.step).toFixed(1)},${y(point.loss).toFixed(1)}`)
          .join(' ')}"/>`;
  const bottom = HEIGHT - BOX.bottom;
  const final = means.at(-1);
  const summary =
    final === undefined ? 'no step yet' : `${final.loss.toFixed(3)} nats/token after ${last} steps`;

  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="${escapeXml(`${options.title}: loss ${summary}`)}">
<style>${style}</style>
<text class="title" x="${BOX.left}" y="30">${escapeXml(options.title)}</text>
<text class="muted" x="${BOX.left}" y="52">${escapeXml([options.subtitle, summary].filter(Boolean).join(' · '))}</text>
${yTicks
  .map(
    (loss) =>
      `<line class="grid" x1="${BOX.left}" x2="${WIDTH - BOX.right}" y1="${y(loss).toFixed(1)}" y2="${y(loss).toFixed(1)}"/>` +
      `<text class="muted" x="${BOX.left - 10}" y="${(y(loss) + 4).toFixed(1)}" text-anchor="end">${loss}</text>`,
  )
  .join('\n')}
${xTicks
  .map(
    (step) =>
      `<line class="axis" x1="${x(step).toFixed(1)}" x2="${x(step).toFixed(1)}" y1="${bottom}" y2="${bottom + 5}"/>` +
      `<text class="muted" x="${x(step).toFixed(1)}" y="${bottom + 21}" text-anchor="middle">${short(step)}</text>`,
  )
  .join('\n')}
<line class="axis" x1="${BOX.left}" x2="${WIDTH - BOX.right}" y1="${bottom}" y2="${bottom}"/>
${line('raw', shown)}
${width > 1 ? line('mean', means) : ''}
<text x="${(BOX.left + WIDTH - BOX.right) / 2}" y="${HEIGHT - 14}" text-anchor="middle">optimizer step</text>
<text transform="translate(20 ${(BOX.top + bottom) / 2}) rotate(-90)" text-anchor="middle">loss (nats per token)</text>
${
  width > 1
    ? `<g transform="translate(${WIDTH - BOX.right - 250} 30)"><line class="raw" x1="0" x2="22" y1="-4" y2="-4"/><text class="muted" x="28" y="0">each step</text><line class="mean" x1="108" x2="130" y1="-4" y2="-4"/><text class="muted" x="136" y="0">mean of ${width} steps</text></g>`
    : ''
}
</svg>
`;
}

// Math.min(...values) would overflow the stack on a long training.
function minimum(values: readonly number[]): number {
  return values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
}

function maximum(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
}
