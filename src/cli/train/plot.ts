// `lockstep train --plot FILE`: a loss plot that is updated during training.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { LockstepError } from '../../errors.ts';
import { lossSvg } from '../drawing/loss-svg.ts';
import type { CurvePoint } from '../drawing/scale.ts';
import { short } from '../drawing/scale.ts';
import type { TrainEvent } from './events.ts';

export interface LossPlot {
  /** Where the training job draws a PNG, for a file of that kind. */
  readonly png: string | undefined;
  event(event: TrainEvent): void;
  /** Draw the last state. */
  end(): void;
}

const REWRITE_MS = 2000;

/**
 * The plot named by --plot.
 *
 * @throws LS_TRAIN_PLOT for a file that is neither .svg nor .png
 */
export function lossPlot(file: string | undefined, title: string): LossPlot {
  const absolute = file === undefined ? undefined : path.resolve(file);
  const kind = file === undefined ? '' : path.extname(file).toLowerCase();
  if (absolute === undefined) return { png: undefined, event: () => {}, end: () => {} };
  if (kind === '.png') return { png: absolute, event: () => {}, end: () => {} };
  if (kind !== '.svg') {
    throw new LockstepError(
      'LS_TRAIN_PLOT',
      `expected --plot to name an .svg or a .png, got ${file}`,
      { fix: 'Name a file that ends in .svg or .png.' },
    );
  }
  return svgPlot(absolute, title);
}

function svgPlot(file: string, title: string): LossPlot {
  const points: CurvePoint[] = [];
  let subtitle = '';
  let at = 0;
  const draw = (): void => {
    at = Date.now();
    const partial = `${file}.new`;
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(partial, lossSvg(points, { title: `Training of ${title}`, subtitle }));
    renameSync(partial, file);
  };
  return {
    png: undefined,
    event(event) {
      if (event.event === 'start') {
        subtitle = `${event.model}, ${event.mode === 'full' ? 'full attention (control)' : 'segmented'}, ${short(event.tokens)} tokens of text`;
        for (const row of event.curve)
          points.push({ step: row[0] ?? 0, loss: row[3] ?? Number.NaN });
      } else if (event.event === 'step') {
        points.push({ step: event.step, loss: event.loss });
        if (Date.now() - at >= REWRITE_MS) draw();
      }
    },
    end() {
      if (points.length > 0) draw();
    },
  };
}
