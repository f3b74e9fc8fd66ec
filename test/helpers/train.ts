// `lockstep train` in a folder, as its users start it.
import { execFile } from 'node:child_process';
import path from 'node:path';
import type { TrainEvent, TrainResult } from '../../src/cli/train/events.ts';
import { packageRoot } from '../../src/paths.ts';

const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
const env = { ...process.env, OMP_NUM_THREADS: '1', NO_COLOR: '1' };

export interface TrainRun {
  code: number;
  err: string;
  events: (TrainEvent | TrainResult)[];
}

/** Train by the config of this folder; its events are those of `--json`. */
export function trainIn(home: string, ...args: string[]): Promise<TrainRun> {
  return new Promise((resolve) => {
    const command = [cli, 'train', '--json', ...args];
    execFile(process.execPath, command, { cwd: home, env }, (error, out, err) => {
      const events = out
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .map((line) => JSON.parse(line));
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, err, events });
    });
  });
}
