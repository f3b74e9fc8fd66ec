// `lockstep train --plot FILE`: a loss plot that is updated during training.
import { randomUUID } from 'node:crypto';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { LockstepError } from '../../errors.ts';
import { systemProblem } from '../../system-error.ts';
import { lossSvg } from '../drawing/loss-svg.ts';
import type { CurvePoint } from '../drawing/scale.ts';
import { short } from '../drawing/scale.ts';
import { checkWritable } from '../shared/writable.ts';
import type { TrainEvent, WarningEvent } from './events.ts';

export interface LossPlot {
  /** Where the training job draws a PNG, for a file of that kind. */
  readonly png: string | undefined;
  event(event: TrainEvent): void;
  /** Draw the last state. */
  end(): void;
}

const REWRITE_MS = 2000;

/**
 * The plot named by --plot. If the picture cannot be written later on, the training continues: `warn` is
 * called once, and no picture is written from then on.
 *
 * @throws LS_TRAIN_PLOT for a file that is neither .svg nor .png, or that cannot be written
 */
export async function lossPlot(
  file: string | undefined,
  title: string,
  warn: (warning: WarningEvent) => void,
): Promise<LossPlot> {
  if (file === undefined) return { png: undefined, event: () => {}, end: () => {} };
  const absolute = path.resolve(file);
  const kind = path.extname(file).toLowerCase();
  if (kind !== '.svg' && kind !== '.png') {
    throw new LockstepError(
      'LS_TRAIN_PLOT',
      `expected --plot to name an .svg or a .png, got ${file}`,
      { fix: 'Name a file that ends in .svg or .png.', field: 'plot' },
    );
  }
  await checkWritable(absolute).catch((cause: unknown) => {
    throw new LockstepError(
      'LS_TRAIN_PLOT',
      `expected to write ${absolute}, got ${systemProblem(cause)}`,
      { fix: 'Name a file that you can write to with --plot.', field: 'plot', cause },
    );
  });
  return kind === '.png'
    ? { png: absolute, event: () => {}, end: () => {} }
    : svgPlot(absolute, title, warn);
}

function svgPlot(file: string, title: string, warn: (warning: WarningEvent) => void): LossPlot {
  const points: CurvePoint[] = [];
  let subtitle = '';
  let at = 0;
  let failed = false;
  const draw = (): void => {
    if (failed) return;
    at = Date.now();
    const partial = `${file}.${randomUUID().slice(0, 8)}.tmp`;
    try {
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(partial, lossSvg(points, { title: `Training of ${title}`, subtitle }), {
        flag: 'wx',
      });
      renameSync(partial, file);
    } catch (error) {
      failed = true;
      try {
        rmSync(partial, { force: true });
      } catch {
        // The folder itself may be gone.
      }
      const step = points.at(-1)?.step ?? 0;
      const message = `the plot cannot be written, and logging to it stops here: ${file}: ${systemProblem(error)}`;
      warn({ event: 'warning', code: 'LS_TRAIN_LOG', step, message });
    }
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
