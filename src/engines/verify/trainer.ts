// The trainer's side of a verification: its job, the files it writes, its judgement of near-ties.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { type Python, PythonSession, runJob } from '../../bridge/index.ts';
import type { Contract } from '../../contract/index.ts';
import { LockstepError } from '../../errors.ts';
import type { Retrieved } from '../engine.ts';

/** What the training forward said about a text. */
export interface TrainerRun {
  ids: Int32Array;
  /** Cuts e_i as Python plans them. */
  boundaries: number[];
  /** By boundary: what each layer of L_long retrieved. */
  retrieved: Map<number, Retrieved[]>;
  /** log p of token t + 1 after token t, [T - 1]. */
  observed: Float64Array;
  /** How many best tokens a position has. */
  best: number;
  /** The best tokens and their log p, [T, best], best first. */
  bestIds: Int32Array;
  bestLogp: Float64Array;
  /** Folder of the trainer's files; `judge` reads the queries and keys in it. */
  folder: string;
}

export interface TrainerOptions {
  dir: string;
  /** The text whose first tokens `ids` are, for Python to tokenize too. */
  text: string;
  ids: Int32Array;
  contract: Contract;
  folder: string;
  python: Python;
  threads?: number;
  signal?: AbortSignal | undefined;
  onProgress?: (stage: string, done: number, total: number) => void;
}

const bestTokens = 20;

/** Run the training forward (`lockstep.verification.reference`) and read what it wrote. */
export async function runTrainer(options: TrainerOptions): Promise<TrainerRun> {
  const { ids, contract, folder, onProgress } = options;
  const best = Math.min(bestTokens, contract.tokenizer.size);
  const result = await runJob({
    module: 'lockstep.verification.reference',
    python: options.python,
    signal: options.signal,
    job: {
      dir: path.resolve(options.dir),
      text: options.text,
      ids: Array.from(ids),
      best,
      out: folder,
      threads: options.threads ?? null,
    },
    onEvent: (event) => {
      if (event.event !== 'progress') return;
      onProgress?.(String(event['stage']), Number(event['done']), Number(event['total']));
    },
  });
  if (result['digest'] !== contract.digest) {
    throw new LockstepError(
      'LS_CONTRACT_DIGEST',
      `expected Python to read the contract ${contract.digest}, got ${result['digest']}`,
      { fix: 'The checkpoint changed while it was verified: verify it again.' },
    );
  }
  return {
    ids,
    boundaries: result['boundaries'] as number[],
    retrieved: retrievedOf(result['retrieved']),
    observed: new Float64Array(await bytes(folder, 'observed.f64', 8 * (ids.length - 1))),
    best,
    bestIds: new Int32Array(await bytes(folder, 'best-ids.i32', 4 * ids.length * best)),
    bestLogp: new Float64Array(await bytes(folder, 'best-logp.f64', 8 * ids.length * best)),
    folder,
  };
}

/** What a job says was retrieved, by boundary. */
export function retrievedOf(told: unknown): Map<number, Retrieved[]> {
  const list = told as { at: number; layers: { layer: number; positions: number[][] }[] }[];
  return new Map(
    list.map(({ at, layers }) => [
      at,
      layers.map(({ layer, positions }) => ({
        layer,
        positions: positions.map((one) => Int32Array.from(one)),
      })),
    ]),
  );
}

/** A file that a job wrote, of exactly this length. */
export async function bytes(folder: string, name: string, length: number): Promise<ArrayBuffer> {
  const data = await readFile(path.join(folder, name));
  if (data.length !== length) {
    throw new LockstepError(
      'LS_VERIFY_FILES',
      `expected ${length} bytes in ${name}, got ${data.length}`,
      { fix: 'Verify again; if the temporary folder is full, free space there.' },
    );
  }
  return new Uint8Array(data).buffer;
}

/** The trainer's opinion of other positions than its own, from its own queries and keys. */
export class Judge {
  readonly #python: Python;
  readonly #folder: string;
  #session: Promise<PythonSession> | undefined;

  constructor(python: Python, folder: string) {
    this.#python = python;
    this.#folder = folder;
  }

  /**
   * The deciding gap of `other` at boundary `at`, in units of the largest |q| |k| compared;
   * infinity where no near-tie explains it.
   *
   * @param head counts the layer's long heads from 0
   */
  async gap(at: number, layer: number, head: number, other: Int32Array): Promise<number> {
    // Mismatches are rare, so Python starts only for the first.
    this.#session ??= PythonSession.open({ python: this.#python });
    const session = await this.#session;
    const { gap, scale } = await session.call<{ gap: number; scale: number }>(
      'lockstep.verification.reference:gap',
      {
        file: path.join(this.#folder, 'trace.safetensors'),
        at,
        layer,
        head,
        other: Array.from(other),
      },
    );
    if (gap === Number.MAX_VALUE) return Number.POSITIVE_INFINITY;
    return scale > 0 ? gap / scale : gap;
  }

  async close(): Promise<void> {
    await this.#session?.then((session) => session.close()).catch(() => {});
  }
}
