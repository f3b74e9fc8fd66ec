// Proof that serving computes what training computed: each engine against the training forward.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { findPython, type Python } from '../../bridge/index.ts';
import { type ContractFiles, readContract } from '../../contract/index.ts';
import { LockstepError } from '../../errors.ts';
import { Segmenter } from '../../planner/index.ts';
import { loadTokenizer, type Tokenizer } from '../../planner/tokenizer.ts';
import type { Engine, EngineSession, Retrieved } from '../engine.ts';
import { Comparison, type EngineReport } from './compare.ts';
import { type Limits, limitsOf } from './limits.ts';
import { sampleFile, takeText } from './sample.ts';
import { Judge, runTrainer, type TrainerRun } from './trainer.ts';

export type { Divergence, EngineReport } from './compare.ts';

/** Opens an engine on a checkpoint folder. */
export type OpenEngine = (dir: string) => Promise<Engine>;

export interface VerifyOptions {
  dir: string;
  /** Engines by name, in the order in which they are compared. */
  engines: ReadonlyMap<string, OpenEngine>;
  /** UTF-8 text file; a sample of Lockstep's own by default. */
  text?: string | undefined;
  /** Tokens compared (default 512); fewer where the text ends before. */
  tokens?: number;
  /** Largest |dlogp| that passes, instead of each engine's own. */
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
 * The contract is checked first, here and in Python. Each engine is fed token by token; its own
 * planner decides, is compared with the trainer's, and the trainer's cut is taken, so that one wrong
 * cut does not hide what follows. A retrieval that differs is counted, judged by its deciding gap,
 * and replaced by the trainer's (SEMANTICS.md 4).
 *
 * @throws LockstepError LS_CONTRACT_*, LS_TEXT_*, LS_VERIFY_*, what an engine throws on opening
 */
export async function verify(options: VerifyOptions): Promise<VerifyReport> {
  const { dir, signal } = options;
  const source = await readContract(dir);
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
  const judge = new Judge(python, source.contract, folder);
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
      const engine = await open(dir);
      try {
        reports.push(await compareEngine(engine, { source, tokenizer, trainer, judge, options }));
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

async function compareEngine(engine: Engine, setting: Setting): Promise<EngineReport> {
  const { source, tokenizer, trainer, judge, options } = setting;
  const { name, precision } = engine.info;
  if (engine.contract.digest !== source.contract.digest) {
    throw new LockstepError(
      'LS_CONTRACT_DIGEST',
      `expected the ${name} engine to serve ${source.contract.digest}, got ${engine.contract.digest}`,
      { mend: 'the checkpoint changed while it was verified: verify it again' },
    );
  }
  const stated = limitsOf(name, precision);
  const limits: Limits = { ...stated, tolerance: options.tolerance ?? stated.tolerance };
  const comparison = new Comparison(trainer, limits, (token) => tokenizer.decode([token]));
  const cuts = new Set(trainer.boundaries);
  const segmenter = new Segmenter(source);
  const session = await engine.open();
  try {
    for (const [position, token] of trainer.ids.entries()) {
      options.signal?.throwIfAborted();
      const close = cuts.has(position + 1);
      comparison.boundary(position, segmenter.push(token), close);
      const result = await session.step([token], { rows: 'last', close });
      comparison.logits(position, result.logits);
      if (result.boundary !== null) {
        await compareRetrieved(session, result.boundary, trainer, judge, comparison);
      }
      options.onProgress?.(name, position + 1, trainer.ids.length);
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
  const theirs = trainer.retrieved.get(boundary.at) ?? [];
  const ours = new Map(boundary.retrieved.map((one) => [one.layer, one.positions]));
  let same = true;
  let sameSize = true;
  for (const { layer, positions } of theirs) {
    for (const [head, expected] of positions.entries()) {
      const actual = ours.get(layer)?.[head] ?? new Int32Array(0);
      if (equal(expected, actual)) continue;
      same = false;
      if (expected.length !== actual.length) sameSize = false;
      const gap = await judge.gap(boundary.at, layer, head, actual);
      comparison.retrieval(boundary.at, layer, head, gap, difference(expected, actual));
    }
  }
  // An engine that retrieves another number of rows has no room for ours: it goes on with its own.
  if (!same && sameSize) await session.replaceRetrieved(theirs);
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
