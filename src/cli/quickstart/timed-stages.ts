// The quickstart's stages as a person sees them: each announced, with its progress, and how long it took.
import path from 'node:path';
import { shellWord } from '../../shell-word.ts';
import { runStage, type StageEvent } from './stage.ts';

/** Run `lockstep …args`; `accept`: exit codes that still carry a result. */
export type RunTimed = (name: string, args: string[], accept?: number[]) => Promise<StageEvent>;

/** @param seconds what each stage took is put here under its name */
export function timedStages(signal: AbortSignal, seconds: Record<string, number>): RunTimed {
  return async (name, args, accept = []) => {
    say(`\n● ${name}   lockstep ${args.map((arg) => shellWord(shorten(arg))).join(' ')}`);
    const started = performance.now();
    const result = await runStage(args, { signal, accept, onEvent: progress });
    seconds[name] = secondsSince(started);
    return result;
  };
}

/** With one digit. */
export function secondsSince(started: number): number {
  return Number(((performance.now() - started) / 1000).toFixed(1));
}

export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Progress of a training: one of its steps at most every five seconds. */
let shown = 0;
function progress(event: StageEvent): void {
  if (event['event'] !== 'step' || performance.now() - shown < 5000) return;
  shown = performance.now();
  const number = (key: string, digits: number): string => Number(event[key]).toFixed(digits);
  say(
    `  step ${event['step']}   loss ${number('loss', 3)}   ${number('tokensPerSecond', 0)} tokens/s   ${number('eta', 0)} s to go`,
  );
}

function shorten(arg: string): string {
  const relative = path.isAbsolute(arg) ? path.relative(process.cwd(), arg) : arg;
  return relative === '' || relative.startsWith('..') ? arg : relative;
}
