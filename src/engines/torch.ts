// The torch engine: the trainer's own operator in Python, its sequences managed from here by handles.
import { closeSync, openSync, readSync, unlinkSync } from 'node:fs';
import path from 'node:path';
import { type Python, PythonSession } from '../bridge/index.ts';
import { readContract } from '../checkpoint/index.ts';
import type { Contract } from '../contract/index.ts';
import { LockstepError } from '../errors.ts';
import type {
  Engine,
  EngineInfo,
  EngineSession,
  Retrieved,
  SessionMemory,
  StateSnapshot,
  StepOptions,
  StepResult,
} from './engine.ts';
import { type SessionLease, SessionRegistry } from './session-registry.ts';

export type TorchDtype = 'float32' | 'float64' | 'bfloat16';

export interface TorchEngineOptions {
  /** An interpreter from `findPython`, or what `--python` named. */
  python?: Python | string | undefined;
  /** What the model computes in (default float32); logits always come as float32. */
  dtype?: TorchDtype;
  /** `full`: stock full attention of the same weights, to compare with (default `segmented`). */
  execution?: 'segmented' | 'full';
  /** Threads of one step (default: torch's own choice). */
  threads?: number;
  /** Sessions open at once (default 64). */
  maxSessions?: number;
  /** Tokens one session may hold (default: no limit of the engine's own). */
  maxTokens?: number;
}

interface Loaded extends Omit<EngineInfo, 'name' | 'precision'> {
  digest: string;
  channel: string;
}

interface Stepped {
  rows: number;
  channel: string;
  boundary: { at: number; retrieved: { layer: number; positions: number[][] }[] } | null;
}

/**
 * Open a checkpoint in a Python process of its own.
 *
 * @throws LockstepError LS_CONTRACT_* (checked here and again in Python), LS_MODEL_*, LS_PYTHON_*
 */
export async function openTorchEngine(
  dir: string,
  options: TorchEngineOptions = {},
): Promise<Engine> {
  const { contract } = await readContract(dir, { weights: 'needed' });
  const dtype = options.dtype ?? 'float32';
  const python = await PythonSession.open({ python: options.python });
  try {
    const { digest, channel, ...shape } = await python.call<Loaded>(
      'lockstep.engine.sessions:load',
      {
        path: path.resolve(dir),
        dtype,
        threads: options.threads ?? null,
        folder: python.folder,
        execution: options.execution ?? 'segmented',
      },
    );
    if (digest !== contract.digest) {
      throw new LockstepError(
        'LS_CONTRACT_DIGEST',
        `expected Python to read the contract ${contract.digest}, got ${digest}`,
        { fix: 'The checkpoint changed while it was opened: open it again.' },
      );
    }
    const info: EngineInfo = { name: 'torch', precision: dtype, ...shape };
    return new TorchEngine(info, contract, python, new LogitsReader(channel), options);
  } catch (error) {
    await python.close();
    throw error;
  }
}

class TorchEngine implements Engine {
  readonly info: EngineInfo;
  readonly contract: Contract;
  readonly python: PythonSession;
  readonly logits: LogitsReader;
  readonly #registry: SessionRegistry;
  snapshotBytes = 0;

  constructor(
    info: EngineInfo,
    contract: Contract,
    python: PythonSession,
    logits: LogitsReader,
    options: TorchEngineOptions,
  ) {
    this.info = info;
    this.contract = contract;
    this.python = python;
    this.logits = logits;
    this.#registry = new SessionRegistry(info.vocabulary, options);
  }

  get sessions(): number {
    return this.#registry.size;
  }

  get lost(): Promise<LockstepError> {
    return this.python.died;
  }

  open(): Promise<EngineSession> {
    return this.begin(0, () => this.python.call<number>('lockstep.engine.sessions:open_session'));
  }

  /** Make a session in Python: `make` gives its handle. */
  begin(length: number, make: () => Promise<number>): Promise<EngineSession> {
    return this.#registry.open(
      length,
      async (lease) => new TorchSession(await make(), this, lease),
    );
  }

  /** A copy of a session of this length. */
  async snapshot(handle: number, length: number): Promise<StateSnapshot> {
    const { snapshot, bytes } = await this.python.call<{ snapshot: number; bytes: number }>(
      'lockstep.engine.sessions:snapshot',
      { handle },
    );
    this.snapshotBytes = bytes;
    let dropped: Promise<void> | undefined;
    const drop = async () => {
      // Where Python has died, its states went with it.
      const left = this.python.call<number>('lockstep.engine.sessions:drop', { snapshot });
      this.snapshotBytes = await left.catch(() => 0);
    };
    return {
      open: () =>
        this.begin(length, () =>
          this.python.call<number>('lockstep.engine.sessions:resume', { snapshot }),
        ),
      drop: () => {
        dropped ??= drop();
        return dropped;
      },
    };
  }

  async close(): Promise<void> {
    this.#registry.clear();
    this.snapshotBytes = 0;
    await this.python.close();
    this.logits.close();
  }
}

class TorchSession implements EngineSession {
  readonly id: string;
  readonly #handle: number;
  readonly #engine: TorchEngine;
  readonly #lease: SessionLease;
  #closed: Promise<void> | undefined;

  constructor(handle: number, engine: TorchEngine, lease: SessionLease) {
    this.id = `torch-${handle}`;
    this.#handle = handle;
    this.#engine = engine;
    this.#lease = lease;
  }

  step(tokens: ArrayLike<number>, options: StepOptions): Promise<StepResult> {
    return this.#lease.step(tokens, (ids) => this.#run(ids, options));
  }

  async #run(ids: Int32Array, { rows, close }: StepOptions): Promise<StepResult> {
    const { python, info, logits } = this.#engine;
    let values: Float32Array = new Float32Array(0);
    const stepped = await python.call<Stepped>(
      'lockstep.engine.sessions:step',
      { handle: this.#handle, tokens: Array.from(ids), rows, close },
      {
        // In this call's turn: the next step overwrites the file.
        take: (answer: Stepped) => {
          values = logits.read(answer.channel, answer.rows * info.vocabulary);
          return answer;
        },
      },
    );
    return {
      logits: values,
      rows: stepped.rows,
      boundary: stepped.boundary && {
        at: stepped.boundary.at,
        retrieved: stepped.boundary.retrieved.map(({ layer, positions }) => ({
          layer,
          positions: positions.map((list) => Int32Array.from(list)),
        })),
      },
    };
  }

  async replaceRetrieved(retrieved: Retrieved[]): Promise<void> {
    this.#lease.check();
    await this.#engine.python.call('lockstep.engine.sessions:replace', {
      handle: this.#handle,
      retrieved: retrieved.map(({ layer, positions }) => ({
        layer,
        positions: positions.map((list) => Array.from(list)),
      })),
    });
  }

  async fork(): Promise<EngineSession> {
    this.#lease.check();
    const from = this.#handle;
    return this.#engine.begin(this.#lease.length, () =>
      this.#engine.python.call<number>('lockstep.engine.sessions:fork', { handle: from }),
    );
  }

  async snapshot(): Promise<StateSnapshot> {
    this.#lease.check();
    return this.#engine.snapshot(this.#handle, this.#lease.length);
  }

  memory(): Promise<SessionMemory> {
    return this.#engine.python.call<SessionMemory>('lockstep.engine.sessions:memory', {
      handle: this.#handle,
    });
  }

  close(): Promise<void> {
    this.#closed ??= this.#free();
    return this.#closed;
  }

  async #free(): Promise<void> {
    this.#lease.release();
    // Where Python has died, its sequences went with it.
    if (!this.#engine.python.alive) return;
    await this.#engine.python
      .call('lockstep.engine.sessions:free', { handle: this.#handle })
      .catch((error: unknown) => {
        if (this.#engine.python.alive) throw error;
      });
  }
}

/** The file of raw float32 through which logits come (`Channel` in python/lockstep/engine/sessions.py). */
class LogitsReader {
  #path = '';
  #fd: number | undefined;

  constructor(file: string) {
    this.#follow(file);
  }

  /** The first `count` floats of the file, copied. */
  read(file: string, count: number): Float32Array {
    const values = new Float32Array(count);
    if (count === 0) return values;
    if (file !== this.#path) this.#follow(file);
    const bytes = new Uint8Array(values.buffer);
    let at = 0;
    while (at < bytes.length) {
      const got = readSync(this.#fd as number, bytes, at, bytes.length - at, at);
      if (got === 0) {
        throw new LockstepError(
          'LS_ENGINE_LOGITS',
          `expected ${bytes.length} bytes of logits from Python, got ${at}`,
        );
      }
      at += got;
    }
    return values;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #follow(file: string): void {
    this.close();
    this.#fd = openSync(file, 'r');
    this.#path = file;
    try {
      unlinkSync(file);
    } catch {
      // Windows keeps a file that is open; it goes with the session's folder.
    }
  }
}
