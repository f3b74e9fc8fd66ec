// The progress of work that comes in stages.
import { type Progress, progress } from './output.ts';

export interface StageBar {
  update(stage: string, done: number, total: number): void;
  stop(): void;
}

/** One bar at a time: a new stage ends the one before. `width`: of the stages' names. */
export function stageBar({ width }: { width: number }): StageBar {
  let current: { stage: string; bar: Progress } | undefined;
  return {
    update(stage, done, total) {
      if (current?.stage !== stage) {
        current?.bar.stop();
        current = { stage, bar: progress({ label: stage.padEnd(width), total }) };
      }
      current.bar.update(done, `${done}/${total}`);
    },
    stop: () => current?.bar.stop(),
  };
}
