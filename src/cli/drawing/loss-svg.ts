// The loss curve of a training as a standalone SVG.
import { lineChart } from './line-chart.ts';
import { type CurvePoint, downsample, short, smooth, smoothingWidth } from './scale.ts';

export interface LossPlotOptions {
  title: string;
  /** Second line, such as the model and the budget. */
  subtitle?: string;
  /** Pixels. */
  width?: number;
}

const POINTS = 1600;

/**
 * Draw losses over optimizer steps: every step thin, their running mean thick.
 *
 * @param points the curve so far, ascending steps; may be empty
 * @returns a complete SVG document
 */
export function lossSvg(points: readonly CurvePoint[], options: LossPlotOptions): string {
  const shown = points.filter((point) => Number.isFinite(point.loss));
  const over = smoothingWidth(shown.length);
  const means = smooth(
    shown.map((point) => point.loss),
    over,
  ).map((loss, i) => ({ step: (shown[i] as CurvePoint).step, loss }));
  const final = means.at(-1);
  const summary =
    final === undefined
      ? 'no step yet'
      : `${final.loss.toFixed(3)} nats/token after ${final.step} steps`;
  const line = (curve: readonly CurvePoint[]): [number, number][] =>
    downsample(curve, POINTS).map(({ step, loss }) => [step, loss]);
  return lineChart({
    title: options.title,
    subtitle: [options.subtitle, summary].filter(Boolean).join(' · '),
    xLabel: 'optimizer step',
    yLabel: 'loss (nats per token)',
    linear: true,
    ...(options.width === undefined ? {} : { width: options.width }),
    series: [
      { label: 'each step', role: 'segment', look: 'faint', points: line(shown) },
      ...(over > 1
        ? [{ label: `mean of ${over} steps`, role: 'segment' as const, points: line(means) }]
        : []),
    ],
    xText: short,
  });
}
