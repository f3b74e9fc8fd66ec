// Tiny checkpoints of every architecture, attached and exported, with the trainer's numbers for them.
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { findPython, type Python, pythonEnvironment } from '../src/bridge/index.ts';
import { attach, type ContractSettings } from '../src/checkpoint/index.ts';
import type { Contract } from '../src/contract/index.ts';
import type { EngineSession, Retrieved } from '../src/engines/engine.ts';
import { fixed } from '../src/policies/index.ts';

export interface TinyCase {
  name: string;
  architecture: 'llama' | 'mistral' | 'qwen2' | 'qwen3';
  /** Options of test/python/tiny.py. */
  model: Record<string, number | string | boolean>;
  segment: number;
  carry: Contract['carry'];
  retrieval: Contract['retrieval'];
  heads: number[] | number[][];
  tokens: number[];
  boundaries: number[];
}

/** What the trainer computed for a case. */
export interface Reference {
  /** log p, [T, V]. */
  logp: Float32Array;
  vocabulary: number;
  /** By boundary. */
  retrieved: Map<number, { layer: number; positions: number[][] }[]>;
}

/** Made in one Python process, which `finish` ends: it takes long to import PyTorch. */
export class TinyCheckpoints {
  readonly folder: string;
  readonly python: Python;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #answers: Interface;

  private constructor(folder: string, python: Python) {
    this.folder = folder;
    this.python = python;
    const script = path.join(import.meta.dirname, 'python', 'onnx_reference.py');
    this.#child = spawn(python.executable, [script], {
      env: { ...pythonEnvironment(), OMP_NUM_THREADS: '1' },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#answers = createInterface({ input: this.#child.stdout });
  }

  static async make(folder: string, cases: readonly TinyCase[]): Promise<TinyCheckpoints> {
    const made = new TinyCheckpoints(folder, await findPython());
    await made.#run(
      'make',
      cases.map(({ name, architecture, model }) => ({
        dir: path.join(folder, `${name}.model`),
        architecture,
        ...model,
      })),
    );
    for (const one of cases) {
      await attach({ config: settings(one), modelDir: made.modelDir(one), out: made.dir(one) });
    }
    return made;
  }

  modelDir(one: TinyCase): string {
    return path.join(this.folder, `${one.name}.model`);
  }

  /** The attached checkpoint. */
  dir(one: TinyCase): string {
    return path.join(this.folder, one.name);
  }

  /** What `lockstep export` does, for many in one process. */
  async export(
    cases: readonly TinyCase[],
    precisions: readonly string[] = ['fp32'],
  ): Promise<void> {
    const jobs = cases.map((one) => ({ dir: this.dir(one), precisions, force: true }));
    await this.#run('export', jobs);
  }

  /** The trainer's numbers. */
  async references(cases: readonly TinyCase[]): Promise<Map<string, Reference>> {
    const jobs = cases.map((one) => ({
      dir: this.dir(one),
      out: path.join(this.folder, `${one.name}.logp`),
      ids: one.tokens,
      boundaries: one.boundaries,
    }));
    const printed = (await this.#run('run', jobs)) as [
      number,
      { layer: number; positions: number[][] }[],
    ][][];
    return new Map(
      cases.map((one, i) => {
        const bytes = readFileSync(jobs[i]?.out as string);
        const logp = new Float32Array(new Uint8Array(bytes).buffer);
        const vocabulary = logp.length / one.tokens.length;
        return [one.name, { logp, vocabulary, retrieved: new Map(printed[i]) }];
      }),
    );
  }

  /** Nothing more is asked of Python. */
  finish(): void {
    this.#child.stdin.end();
  }

  async #run(command: string, cases: readonly object[]): Promise<unknown> {
    const ended = once(this.#child, 'close').then(([code]) => {
      throw new Error(
        `expected an answer to ${command} of onnx_reference.py, got exit code ${code}`,
      );
    });
    // An export tells of its progress on the same stream.
    const answer = new Promise((resolve) => {
      const look = (line: string): void => {
        const told = JSON.parse(line) as { answer?: unknown };
        if (!('answer' in told)) return;
        this.#answers.off('line', look);
        resolve(told.answer);
      };
      this.#answers.on('line', look);
    });
    this.#child.stdin.write(`${JSON.stringify({ command, cases })}\n`);
    return await Promise.race([answer, ended]);
  }
}

function settings(one: TinyCase): ContractSettings {
  return {
    policy: fixed(),
    segment: { min: 1, max: one.segment, align: 1 },
    carry: one.carry,
    retrieval: one.retrieval,
    heads: { long: one.heads },
    bos: false,
  } as ContractSettings;
}

/** Run a case's tokens in steps of at most `size`; log p [T, V] and what was retrieved. */
export async function runCase(
  session: EngineSession,
  one: TinyCase,
  size: number,
  vocabulary: number,
): Promise<{ logp: Float32Array; retrieved: Map<number, Retrieved[]> }> {
  const logp = new Float32Array(one.tokens.length * vocabulary);
  const retrieved = new Map<number, Retrieved[]>();
  const cuts = [...one.boundaries.filter((cut) => cut < one.tokens.length), one.tokens.length];
  let at = 0;
  for (const cut of cuts) {
    while (at < cut) {
      const end = Math.min(cut, at + size);
      const close = end === cut && one.boundaries.includes(cut);
      const step = await session.step(one.tokens.slice(at, end), { rows: 'all', close });
      logp.set(logSoftmax(step.logits, vocabulary), at * vocabulary);
      if (step.boundary !== null) retrieved.set(step.boundary.at, step.boundary.retrieved);
      at = end;
    }
  }
  return { logp, retrieved };
}

function logSoftmax(logits: Float32Array, width: number): Float32Array {
  const out = new Float32Array(logits.length);
  for (let at = 0; at < logits.length; at += width) {
    const row = logits.subarray(at, at + width);
    const most = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
    const sum = row.reduce((a, b) => a + Math.exp(b - most), 0);
    for (let i = 0; i < width; i++) out[at + i] = (row[i] as number) - most - Math.log(sum);
  }
  return out;
}

export function largestDifference(a: Float32Array, b: Float32Array): number {
  let most = a.length === b.length ? 0 : Number.POSITIVE_INFINITY;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs((a[i] as number) - (b[i] as number));
    // NaN must not pass.
    if (!(difference <= most)) most = difference;
  }
  return most;
}
