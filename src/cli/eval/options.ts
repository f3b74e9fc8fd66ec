// Options of lockstep eval: which suite takes which, and what they are unless given.
import path from 'node:path';
import { sampleFile } from '../../engines/verify/sample.ts';
import { LockstepError } from '../../errors.ts';
import { needs } from '../shared/needs.ts';
import type { PplAsked } from './ppl.ts';
import type { Attention, EvalEngine } from './rows.ts';
import { essayTasks, rulerTasks, type TasksAsked } from './tasks.ts';

export interface EvalOptions {
  suite: 'ppl' | 'ruler' | 'longbench';
  lengths?: number[];
  attention?: Attention;
  engine: EvalEngine;
  precision?: string;
  base?: string | false;
  text?: string[];
  skip?: number;
  windows?: number;
  bins?: number;
  tasks?: string[];
  samples?: number;
  seed?: number;
  haystack?: string;
  data?: string;
  chat?: true;
  out?: string;
  device?: string;
  threads?: number;
  python?: string;
  json?: true;
}

/** Times the training context: lengths unless given. */
const multiples = [1, 2, 4, 8];

/** Below this the smallest samples of some tasks do not fit. */
const leastTask = 1024;

/** @param context tokens that the model was trained on at once */
export function pplAsked(options: EvalOptions, context: number): PplAsked {
  return {
    texts: (options.text ?? [sampleFile]).map((file) => path.resolve(file)),
    skip: options.skip ?? 0,
    lengths: options.lengths ?? multiples.map((times) => times * context),
    exact: options.lengths !== undefined,
    windows: options.windows ?? 4,
    bins: options.bins ?? 16,
  };
}

/** @throws LS_EVAL_LONGBENCH without a copy of its data; LS_EVAL_TASK for tasks that are not RULER's */
export function tasksAsked(options: EvalOptions, context: number): TasksAsked {
  const usual = multiples.map((times) => times * context).filter((n) => n >= leastTask);
  const common = {
    lengths: options.lengths ?? (usual.length > 0 ? usual : [leastTask]),
    samples: options.samples ?? 20,
    chat: options.chat ?? false,
  };
  const { tasks, data } = options;
  if (options.suite === 'longbench') {
    if (data === undefined) throw longbenchError();
    return { ...common, suite: 'longbench', tasks: tasks ?? null, data: path.resolve(data) };
  }
  const known: readonly string[] = rulerTasks;
  const unknown = tasks?.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new LockstepError(
      'LS_EVAL_TASK',
      `expected tasks of ${known.join(', ')}, got ${unknown}`,
      { fix: 'Correct --tasks.', field: 'tasks' },
    );
  }
  return {
    ...common,
    suite: 'ruler',
    tasks: known.filter((name) => tasks?.includes(name) ?? true),
    seed: options.seed ?? 42,
    haystack: path.resolve(options.haystack ?? sampleFile),
  };
}

const suitesOf = {
  text: ['ppl'],
  skip: ['ppl'],
  windows: ['ppl'],
  bins: ['ppl'],
  device: ['ppl'],
  tasks: ['ruler', 'longbench'],
  samples: ['ruler', 'longbench'],
  chat: ['ruler', 'longbench'],
  seed: ['ruler'],
  haystack: ['ruler'],
  data: ['longbench'],
} as const satisfies Partial<Record<keyof EvalOptions, readonly string[]>>;

/** @throws LS_USAGE for an option that the suite or its rows do not use */
export function checkOptions(options: EvalOptions): void {
  for (const [name, suites] of Object.entries(suitesOf)) {
    const given = options[name as keyof typeof suitesOf] !== undefined;
    if (!given || (suites as readonly string[]).includes(options.suite)) continue;
    throw new LockstepError(
      'LS_USAGE',
      `expected --suite ${suites.join(' or ')} with --${name}, got ${options.suite}`,
      { fix: `Leave --${name} out.`, field: name },
    );
  }
  const { engine, attention, device, haystack, tasks } = options;
  if (haystack !== undefined && tasks?.some((name) => essayTasks.includes(name)) === false) {
    throw needs('haystack', `a task of ${essayTasks.join(', ')}`, `--tasks ${tasks.join(',')}`);
  }
  if (engine === 'torch') return;
  if (attention === 'full') {
    throw new LockstepError(
      'LS_USAGE',
      `--attention full always runs in torch, got --engine ${engine}`,
      { fix: 'Leave --engine out.', field: 'engine' },
    );
  }
  if (device !== undefined && attention === 'segmented') {
    throw new LockstepError(
      'LS_USAGE',
      `--device applies only to rows that torch runs, got --attention segmented --engine ${engine}`,
      { fix: 'Leave --device out.', field: 'device' },
    );
  }
}

function longbenchError(): LockstepError {
  return new LockstepError(
    'LS_EVAL_LONGBENCH',
    'expected a copy of LongBench’s data, which cannot be made offline, got none',
    {
      fix: 'Give with --data a folder that holds TASK.jsonl files and, from LongBench’s repository, dataset2prompt.json and dataset2maxlen.json; or measure with --suite ruler.',
      field: 'data',
    },
  );
}
