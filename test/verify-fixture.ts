// What the tests of verify compare: a checkpoint, others like it, and the torch engine of each.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { findPython, type Python } from '../src/bridge/index.ts';
import { attach, type ContractSettings } from '../src/checkpoint/index.ts';
import type { Engine } from '../src/engines/engine.ts';
import { openTorchEngine } from '../src/engines/torch.ts';
import type { OpenEngine } from '../src/engines/verify/index.ts';
import { sentences } from '../src/policies/index.ts';
import { tinyModel } from './tiny-model.ts';

export const settings: ContractSettings = {
  policy: sentences(),
  segment: { min: 8, max: 32, align: 1 },
  carry: { size: 12, sinks: 4 },
  retrieval: { size: 24, recipe: 'anchors', layers: [1, 3] },
  heads: { long: [1] },
  bos: false,
};

/** Made before the tests of a file, and removed after them. */
export class Verified {
  folder = '';
  /** Of the checkpoint with `settings`. */
  dir = '';
  /** The model without a contract. */
  model = '';
  python!: Python;
  readonly #opened = new Map<string, Promise<Engine>>();

  /** A checkpoint with other settings, or of another model. */
  async attached(
    name: string,
    model: string,
    change: Partial<ContractSettings> = {},
  ): Promise<string> {
    const out = path.join(this.folder, name);
    await attach({ config: { ...settings, ...change }, modelDir: model, out });
    return out;
  }

  /** The torch engine of a checkpoint, which the tests share: each is a process that imports PyTorch. */
  readonly torch: OpenEngine = async (at) => {
    let made = this.#opened.get(at);
    if (made === undefined) {
      made = openTorchEngine(at, { python: this.python, threads: 1 });
      this.#opened.set(at, made);
    }
    const engine = await made;
    return {
      info: engine.info,
      contract: engine.contract,
      get sessions() {
        return engine.sessions;
      },
      open: () => engine.open(),
      close: async () => {},
    };
  };

  async close(): Promise<void> {
    for (const engine of this.#opened.values()) await (await engine).close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function useVerified(): Verified {
  const made = new Verified();
  beforeAll(async () => {
    made.python = await findPython();
    made.folder = mkdtempSync(path.join(tmpdir(), 'lockstep-verify-test-'));
    made.model = await tinyModel(path.join(made.folder, 'model'));
    made.dir = await made.attached('good', made.model);
  });
  afterAll(() => made.close());
  return made;
}
