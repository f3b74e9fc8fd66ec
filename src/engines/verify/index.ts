// Proof that serving computes what training computed: each engine against the training forward.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { findPython, type Python } from '../../bridge/index.ts';
import { type ContractFiles, readContract } from '../../checkpoint/index.ts';
import { LockstepError } from '../../errors.ts';
import { Segmenter } from '../../planner/index.ts';
import { loadTokenizer, type Tokenizer } from '../../tokenizer/tokenizer.ts';
import type { Engine, EngineSession, Retrieved } from '../engine.ts';
import { Comparison, type EngineReport } from './compare.ts';
import { type Limits, limitsOf } from './limits.ts';
import { sampleFile, takeText } from './sample.ts';
import { verifySteps } from './steps.ts';
import { Judge, runTrainer, type TrainerRun } from './trainer.ts';

export type { Divergence, EngineReport } from './compare.ts';

/** Opens an engine on a checkpoint folder. */
export type OpenEngine = (dir: string) => Promise<Engine>;

/** An engine that cannot be stepped from here: it runs over the whole text by itself. */
export interface WholeEngine {
  run: (input: WholeInput) => Promise<WholeRun>;
}

export interface WholeInput {
  dir: string;
  trainer: TrainerRun;
  python: Python;
  signal: AbortSignal | undefined;
  onProgress: (stage: string, done: number, total: number) => void;
}

/** What such an engine computed; it went on with the trainer's rows where it chose others. */
export interface WholeRun {
  name: string;
  precision: string;
  digest: string;
  /** Cuts e_i of each part of the engine that plans. */
  plans: number[][];
  retrieved: Map<number, Retrieved[]>;
  /** Its best token at every position, [T]. */
  argmax: Int32Array;
  /** log p of the observed token and of the trainer's best, [T, 1 + best]. */
  logp: Float64Array;
}

export interface VerifyOptions {
  dir: string;
  /** Engines by name, in the order in which they are compared. */
  engines: ReadonlyMap<string, OpenEngine | WholeEngine>;
  /** UTF-8 text file; a built-in sample by default. */
  text?: string | undefined;
  /** Tokens compared (default 512); fewer where the text ends before. */
  tokens?: number;
  /** Largest |dlogp| that passes, instead of each engine's own limit (of the mean for rounded models). */
  tolerance?: number | undefined;
  python?: Python | string | undefined;
  /** Threads of the training forward (default: torch's own choice). */
  threads?: number;
  signal?: AbortSignal | undefined;
  /** `stage` is what is at work: of the trainer, or an engine's name. */
  onProgress?: (stage: string, done: number, total: number) => void;
}

export interface VerifyReport {
  ok: boolean;
  engines: EngineReport[];
}

/**
 * Run the training forward and each engine over the same text and compare them at every position.
 *
 * The contract is checked first, here and in Python. Each engine is fed as a server feeds it (steps.ts);
 * its own planner decides, is compared with the trainer's, and the trainer's cut is taken, so that one
 * wrong cut does not hide what follows. A retrieval that differs is counted, judged by its deciding gap,
 * and replaced by the trainer's (SEMANTICS.md 4).
 *
 * @throws LockstepError LS_CONTRACT_*, LS_TEXT_*, LS_VERIFY_*, what an engine throws on opening
 */
export async function verify(options: VerifyOptions): Promise<VerifyReport> {
  const { dir, signal } = options;
  const source = await readContract(dir, { weights: 'needed' });
  const tokenizer = await loadTokenizer(dir);
  const bos = source.contract.tokenizer.bos;
  const { text, ids } = await takeText(
    options.text ?? sampleFile,
    options.tokens ?? 512,
    tokenizer,
    bos,
  );
  const python =
    typeof options.python === 'object'
      ? options.python
      : await findPython({ python: options.python });
  const folder = await mkdtemp(path.join(tmpdir(), 'lockstep-verify-'));
  const judge = new Judge(python, folder);
  try {
    const trainer = await runTrainer({
      ...{ dir, text, ids, folder, python, signal, contract: source.contract },
      ...(options.threads === undefined ? {} : { threads: options.threads }),
      ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
    });
    const reports: EngineReport[] = [];
    for (const [name, open] of options.engines) {
      signal?.throwIfAborted();
      options.onProgress?.(name, 0, ids.length);
      const setting = { source, tokenizer, trainer, judge, options };
      if (typeof open === 'object') {
        reports.push(await compareWhole(open, python, setting));
        continue;
      }
      const engine = await open(dir);
      try {
        reports.push(await compareEngine(engine, setting));
      } finally {
        await engine.close();
      }
    }
    return { ok: reports.every((report) => report.ok), engines: reports };
  } finally {
    await judge.close();
    await rm(folder, { recursive: true, force: true });
  }
}

interface Setting {
  source: ContractFiles;
  tokenizer: Tokenizer;
  trainer: TrainerRun;
  judge: Judge;
  options: VerifyOptions;
}

async function compareWhole(
  engine: WholeEngine,
  python: Python,
  setting: Setting,
): Promise<EngineReport> {
  const { trainer, judge, options } = setting;
  const run = await engine.run({
    dir: options.dir,
    trainer,
    python,
    signal: options.signal,
    onProgress: options.onProgress ?? (() => {}),
  });
  const comparison = begin(run.name, run.precision, run.digest, setting);
  const cuts = new Set(trainer.boundaries);
  const plans = run.plans.map((plan) => new Set(plan));
  const width = 1 + trainer.best;
  for (const position of trainer.ids.keys()) {
    const at = position + 1;
    const cut = cuts.has(at);
    // One part that plans otherwise is enough.
    comparison.boundary(position, plans.every((plan) => plan.has(at) === cut) ? cut : !cut, cut);
    comparison.scores(
      position,
      run.argmax[position] as number,
      (_, rank) => run.logp[position * width + 1 + rank] as number,
    );
    // What a boundary at the very end would retrieve, nobody sees.
    if (cut && at < trainer.ids.length) {
      await judgeRetrieved(
        { at, retrieved: run.retrieved.get(at) ?? [] },
        trainer,
        judge,
        comparison,
      );
    }
  }
  return comparison.report(run.name, run.precision);
}

function begin(name: string, precision: string, digest: string, setting: Setting): Comparison {
  const { source, tokenizer, trainer, options } = setting;
  if (digest !== source.contract.digest) {
    throw new LockstepError(
      'LS_CONTRACT_DIGEST',
      `expected the ${name} engine to serve ${source.contract.digest}, got ${digest}`,
      { fix: 'The checkpoint changed while it was verified: verify it again.' },
    );
  }
  const stated = limitsOf(name, precision);
  const limits: Limits =
    options.tolerance === undefined
      ? stated
      : { ...stated, kind: 'largest', tolerance: options.tolerance };
  return new Comparison(trainer, limits, (token) => tokenizer.decode([token]));
}

async function compareEngine(engine: Engine, setting: Setting): Promise<EngineReport> {
  const { source, trainer, judge, options } = setting;
  const { name, precision } = engine.info;
  const comparison = begin(name, precision, engine.contract.digest, setting);
  const segmenter = new Segmenter(source);
  const session = await engine.open();
  try {
    for (const { from, end, close } of verifySteps(trainer.ids.length, trainer.boundaries)) {
      options.signal?.throwIfAborted();
      const tokens = trainer.ids.subarray(from, end);
      const planned = Array.from(tokens, (token) => segmenter.push(token));
      const { logits, boundary } = await session.step(tokens, { rows: 'all', close });
      const vocabulary = logits.length / tokens.length;
      for (const [at, cut] of planned.entries()) {
        comparison.boundary(from + at, cut, close && from + at + 1 === end);
        comparison.logits(from + at, logits.subarray(at * vocabulary, (at + 1) * vocabulary));
      }
      if (boundary !== null) {
        await compareRetrieved(session, boundary, trainer, judge, comparison);
      }
      options.onProgress?.(name, end, trainer.ids.length);
    }
    return comparison.report(name, precision);
  } finally {
    segmenter.close();
    await session.close();
  }
}

async function compareRetrieved(
  session: EngineSession,
  boundary: { at: number; retrieved: Retrieved[] },
  trainer: TrainerRun,
  judge: Judge,
  comparison: Comparison,
): Promise<void> {
  // An engine that retrieves another number of rows has no room for ours: it continues with its own.
  const { same, sameSize } = await judgeRetrieved(boundary, trainer, judge, comparison);
  const theirs = trainer.retrieved.get(boundary.at) ?? [];
  if (!same && sameSize) await session.replaceRetrieved(theirs);
}

async function judgeRetrieved(
  boundary: { at: number; retrieved: Retrieved[] },
  trainer: TrainerRun,
  judge: Judge,
  comparison: Comparison,
): Promise<{ same: boolean; sameSize: boolean }> {
  const theirs = trainer.retrieved.get(boundary.at) ?? [];
  const ours = new Map(boundary.retrieved.map((one) => [one.layer, one.positions]));
  let same = true;
  let sameSize = true;
  for (const { layer, positions } of theirs) {
    for (const [head, expected] of positions.entries()) {
      const actual = ours.get(layer)?.[head] ?? new Int32Array(0);
      if (equal(expected, actual)) continue;
      same = false;
      const gap = await judge.gap(boundary.at, layer, head, actual);
      // A near-tie of blocks may take the pool's shorter last one; no other has unlike lengths.
      if (expected.length !== actual.length && !Number.isFinite(gap)) sameSize = false;
      comparison.retrieval(boundary.at, layer, head, gap, difference(expected, actual));
    }
  }
  return { same, sameSize };
}

function equal(a: Int32Array, b: Int32Array): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

/** The pool positions that only one of them has, for a message. */
function difference(a: Int32Array, b: Int32Array): [string, string] {
  const only = (these: Int32Array, others: Int32Array): string => {
    const known = new Set(others);
    const list = [...these].filter((one) => !known.has(one));
    const shown = list.slice(0, 8).join(', ');
    return `pool positions ${shown || 'none'}${list.length > 8 ? `, … (${list.length})` : ''}`;
  };
  return [only(a, b), only(b, a)];
}
