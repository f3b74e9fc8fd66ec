import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { findPython, type Python } from '../src/bridge/index.ts';
import { attach, type ContractSettings, readContract } from '../src/checkpoint/index.ts';
import type { Engine, Retrieved, StepResult } from '../src/engines/engine.ts';
import { openTorchEngine } from '../src/engines/torch.ts';
import { type EngineReport, type OpenEngine, verify } from '../src/engines/verify/index.ts';
import type { LockstepError } from '../src/errors.ts';
import { packageRoot } from '../src/paths.ts';
import { sentences } from '../src/policies/index.ts';
import { tinyModel } from './tiny-model.ts';

// Every comparison starts several interpreters that import torch.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

const settings: ContractSettings = {
  policy: sentences(),
  segment: { min: 8, max: 32, align: 1 },
  carry: { size: 12, sinks: 4 },
  retrieval: { size: 24, recipe: 'anchors', layers: [1, 3] },
  heads: { long: [1] },
  bos: false,
};
const tokens = 160;
let folder: string;
let dir: string;
let python: Python;

const failure = async (work: Promise<unknown>): Promise<LockstepError> =>
  work.then(
    (value) => {
      throw new Error(`expected a failure, got ${JSON.stringify(value)}`);
    },
    (error) => error as LockstepError,
  );

const opened = new Map<string, Promise<Engine>>();

/** The torch engine of a checkpoint, which the tests share: each is a process that imports PyTorch. */
const torch: OpenEngine = async (at) => {
  let made = opened.get(at);
  if (made === undefined) {
    made = openTorchEngine(at, { python, threads: 1 });
    opened.set(at, made);
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

/** An engine on another checkpoint that claims to serve this one: what a faulty export would be. */
function posing(other: string): OpenEngine {
  return async (at) => {
    const { contract } = await readContract(at);
    const engine = await torch(other);
    return {
      info: engine.info,
      contract,
      get sessions() {
        return engine.sessions;
      },
      open: () => engine.open(),
      close: () => engine.close(),
    };
  };
}

/** What a faulty engine does otherwise. */
interface Fault {
  /** Changes the result of a step of `tokens` tokens. */
  stepped: (result: StepResult, tokens: number) => void;
  replaced?: (retrieved: Retrieved[]) => void;
}

function faulty({ stepped, replaced }: Fault): OpenEngine {
  return async (at) => {
    const engine = await torch(at);
    const wrapped: Engine = {
      info: engine.info,
      contract: engine.contract,
      get sessions() {
        return engine.sessions;
      },
      close: () => engine.close(),
      async open() {
        const session = await engine.open();
        return {
          id: session.id,
          memory: () => session.memory(),
          fork: () => session.fork(),
          close: () => session.close(),
          async step(ids, options) {
            const result = await session.step(ids, options);
            stepped(result, ids.length);
            return result;
          },
          async replaceRetrieved(retrieved) {
            replaced?.(retrieved);
            await session.replaceRetrieved(retrieved);
          },
        };
      },
    };
    return wrapped;
  };
}

/** An engine whose retrieval takes one other position at the fourth boundary; notes what replaced it. */
function straying(noted: number[]): OpenEngine {
  let boundaries = 0;
  return faulty({
    stepped({ boundary }) {
      if (boundary === null) return;
      boundaries += 1;
      const list = boundary.retrieved[0]?.positions[0];
      // Not a near-tie: the first row that was not taken instead of the last that was.
      const free = list?.findIndex((value, i) => value !== i) ?? -1;
      if (boundaries < 4 || list === undefined || free < 0 || noted.length > 0) return;
      list.copyWithin(free + 1, free, list.length - 1);
      list[free] = free;
      noted.push(boundary.at);
    },
    replaced: (retrieved) => noted.push(retrieved.length),
  });
}

/** An engine whose logits are wrong in the steps that `wrong` names by their number of tokens. */
const shifted = (wrong: (tokens: number) => boolean): OpenEngine =>
  faulty({
    stepped({ logits }, tokens) {
      if (!wrong(tokens)) return;
      for (let at = 0; at < logits.length; at += 2) logits[at] = (logits[at] as number) + 0.1;
    },
  });

async function attached(
  name: string,
  model: string,
  change: Partial<ContractSettings> = {},
): Promise<string> {
  const out = path.join(folder, name);
  await attach({ config: { ...settings, ...change }, modelDir: model, out });
  return out;
}

beforeAll(async () => {
  python = await findPython();
  folder = mkdtempSync(path.join(tmpdir(), 'lockstep-verify-test-'));
  dir = await attached('good', await tinyModel(path.join(folder, 'model')));
});
afterAll(async () => {
  for (const engine of opened.values()) await (await engine).close();
  rmSync(folder, { recursive: true, force: true });
});

describe('verify', () => {
  it('passes the torch engine and fails every engine that computes something else', async () => {
    const model = path.join(folder, 'model');
    const edited = path.join(folder, 'edited-model');
    cpSync(model, edited, { recursive: true });
    // The last float of the file, a weight of the final norm or of the last layer.
    const weights = path.join(edited, 'model.safetensors');
    const data = readFileSync(weights);
    data.writeFloatLE(data.readFloatLE(data.length - 4) + 0.25, data.length - 4);
    writeFileSync(weights, data);
    const replaced: number[] = [];
    const stages = new Set<string>();
    const report = await verify({
      dir,
      tokens,
      python,
      threads: 1,
      engines: new Map([
        ['torch', torch],
        [
          'carry off by one',
          posing(await attached('carry', model, { carry: { size: 13, sinks: 4 } })),
        ],
        [
          'retrieval off by one',
          posing(await attached('size', model, { retrieval: { ...settings.retrieval, size: 23 } })),
        ],
        ['weights', posing(await attached('weights', edited))],
        ['straying', straying(replaced)],
      ]),
      onProgress: (stage) => stages.add(stage),
    });
    const [good, carry, size, edit, stray] = report.engines as [
      EngineReport,
      EngineReport,
      EngineReport,
      EngineReport,
      EngineReport,
    ];
    expect(report.ok).toBe(false);
    expect(good).toMatchObject({
      ok: true,
      engine: 'torch',
      precision: 'fp32',
      tokens,
      boundaryMismatches: 0,
      retrievalMismatches: 0,
      greedyMismatches: 0,
      firstDivergence: null,
    });
    expect(good.maxAbsDlogp).toBeLessThan(1e-4);
    expect(good.maxAbsDlogp).toBeGreaterThan(0);
    expect(good.meanAbsDlogp).toBeLessThan(good.maxAbsDlogp);
    for (const bad of [carry, size, edit]) {
      expect(bad.ok).toBe(false);
      expect(bad.boundaryMismatches).toBe(0);
      expect(bad.maxAbsDlogp).toBeGreaterThan(1e-2);
      expect(bad.firstDivergence).not.toBeNull();
    }
    // Segment 0 has no prefix: what differs in carry or retrieval shows from its end on, not before.
    const first = sentencesEnd(dir);
    expect(carry.firstDivergence?.position).toBeGreaterThanOrEqual(await first);
    expect(size.unexplainedRetrievals).toBeGreaterThan(0);
    expect(edit.firstDivergence).toMatchObject({ kind: 'logp' });
    // A wrong retrieval is named and replaced: nothing after it differs.
    expect(stray).toMatchObject({
      ok: false,
      retrievalMismatches: 1,
      unexplainedRetrievals: 1,
      greedyMismatches: 0,
    });
    expect(stray.maxAbsDlogp).toBeLessThan(1e-4);
    expect(stray.firstDivergence).toMatchObject({
      kind: 'retrieval',
      position: (replaced[0] as number) - 1,
    });
    expect(replaced[1]).toBe(2);
    expect([...stages]).toContain('training forward');
    expect([...stages]).toContain('torch');
  });

  it('judges blocks and a carry of all heads as it does the other recipes', async () => {
    const model = path.join(folder, 'model');
    const sizes = { block: 8, distance: 30, window: 16 };
    const retrieval = { size: 16, recipe: 'blocks' as const, layers: [1, 3], ...sizes };
    const carry = { size: 12, sinks: 4, heads: 'all' as const };
    const other = async (name: string, change: Partial<ContractSettings>) =>
      posing(await attached(name, model, { retrieval, carry, ...change }));
    const replaced: number[] = [];
    const report = await verify({
      dir: await attached('blocks', model, { retrieval, carry }),
      tokens,
      python,
      threads: 1,
      engines: new Map([
        ['torch', torch],
        ['window', await other('window', { retrieval: { ...retrieval, window: 2 } })],
        ['distance', await other('distance', { retrieval: { ...retrieval, distance: 2 } })],
        ['local', await other('local', { carry: { size: 12, sinks: 4 } })],
        ['straying', straying(replaced)],
      ]),
    });
    const [good, ...bad] = report.engines as [EngineReport, ...EngineReport[]];
    expect(good).toMatchObject({ ok: true, tokens, unexplainedRetrievals: 0, greedyMismatches: 0 });
    expect(good.maxAbsDlogp).toBeLessThan(1e-4);
    for (const one of bad) expect(one.ok).toBe(false);
    expect(bad.map((one) => one.unexplainedRetrievals > 0)).toEqual([true, true, true, true]);
    expect(bad[3]).toMatchObject({ retrievalMismatches: 1, greedyMismatches: 0 });
    expect(bad[3]?.maxAbsDlogp).toBeLessThan(1e-4);
    expect(replaced[1]).toBe(2);
  });

  it('refuses checkpoints that were changed by hand', async () => {
    const changed = (
      name: string,
      file: string,
      edit: (text: string) => string,
    ): Promise<LockstepError> => {
      const copy = path.join(folder, name);
      cpSync(dir, copy, { recursive: true });
      writeFileSync(path.join(copy, file), edit(readFileSync(path.join(copy, file), 'utf8')));
      return failure(verify({ dir: copy, tokens, python, engines: new Map([['torch', torch]]) }));
    };
    const digest = await changed('x1', 'lockstep.json', (text) =>
      text.replace(/("carry": ?\{[^}]*"size": ?)12/, '$113'),
    );
    expect(digest.code).toBe('LS_CONTRACT_DIGEST');
    expect((await changed('x2', 'policy.js', (text) => `${text}\n`)).code).toBe(
      'LS_CONTRACT_POLICY',
    );
    expect((await changed('x3', 'tokenizer.json', (text) => `${text} `)).code).toBe(
      'LS_CONTRACT_TOKENIZER',
    );
    expect(
      (await changed('x4', 'config.json', (text) => text.replace('SegmentedLlama', 'Llama'))).code,
    ).toBe('LS_CONTRACT_ARCHITECTURE');
  });

  it('sees a fault of prompts alone, and one of decoding alone', async () => {
    const engines = new Map([
      ['prompts', shifted((count) => count > 1)],
      ['decoding', shifted((count) => count === 1)],
    ]);
    const report = await verify({ dir, tokens, python, threads: 1, engines });
    const places = report.engines.map((one) => one.firstDivergence?.position ?? -1);
    expect(report.engines.map(({ ok }) => ok)).toEqual([false, false]);
    expect(places[0]).toBe(0);
    expect(places[1]).toBeGreaterThan(1);
    expect(places[1]).toBeLessThanOrEqual(tokens / 2);
  });

  it('takes a text of the user: short, missing, not UTF-8', async () => {
    const text = path.join(folder, 'short.txt');
    writeFileSync(text, 'One sentence. And another.\n');
    const engines = new Map([['torch', torch]]);
    const report = await verify({ dir, text, python, threads: 1, engines });
    expect(report).toMatchObject({ ok: true });
    expect(report.engines[0]?.tokens).toBeLessThan(28);
    expect((await failure(verify({ dir, text: '/nowhere.txt', python, engines }))).code).toBe(
      'LS_TEXT_MISSING',
    );
    writeFileSync(text, Buffer.from([0x61, 0xff, 0x62]));
    expect((await failure(verify({ dir, text, python, engines }))).code).toBe('LS_TEXT_ENCODING');
    writeFileSync(text, '');
    expect((await failure(verify({ dir, text, python, engines }))).code).toBe('LS_TEXT_SHORT');
  });
});

/** The first boundary of the default text. */
async function sentencesEnd(at: string): Promise<number> {
  const { plan } = await import('../src/planner/index.ts');
  const { loadTokenizer } = await import('../src/tokenizer/tokenizer.ts');
  const { sampleFile } = await import('../src/engines/verify/sample.ts');
  const ids = await (await loadTokenizer(at)).encode(readFileSync(sampleFile, 'utf8'));
  return (await plan(await readContract(at), ids))[0] as number;
}

describe('lockstep verify', () => {
  const cli = (...args: string[]) =>
    spawnSync(
      process.execPath,
      [path.join(packageRoot, 'dist', 'cli', 'main.js'), 'verify', ...args],
      {
        encoding: 'utf8',
        env: { ...process.env, OMP_NUM_THREADS: '1', NO_COLOR: '1' },
      },
    );

  it('prints exactly one JSON object and exits 0 when all agree', () => {
    const { stdout, status } = cli(dir, '--against', 'torch', '--tokens', '64', '--json');
    expect(status).toBe(0);
    const report = JSON.parse(stdout) as { ok: boolean; engines: EngineReport[] };
    expect(Object.keys(report)).toEqual(['ok', 'engines']);
    expect(Object.keys(report.engines[0] as EngineReport).slice(0, 7)).toEqual([
      'engine',
      'tokens',
      'boundaryMismatches',
      'retrievalMismatches',
      'greedyMismatches',
      'maxAbsDlogp',
      'meanAbsDlogp',
    ]);
    expect(report).toMatchObject({ ok: true, engines: [{ engine: 'torch', tokens: 64 }] });
  });

  it('exits 1 above the tolerance and names the place', () => {
    const { stdout, status } = cli(
      dir,
      '--against',
      'torch',
      '--tokens',
      '64',
      '--tolerance',
      '1e-12',
    );
    expect(status).toBe(1);
    expect(stdout).toMatch(
      /first parts at position \d+: log p of ".*": trainer -?\d+\.\d{6}, engine/,
    );
    expect(stdout).toContain('not consistent: torch fp32');
  });

  it('exits 1 for a checkpoint that cannot be trusted, in JSON too', () => {
    const copy = path.join(folder, 'untrusted');
    cpSync(dir, copy, { recursive: true });
    const file = path.join(copy, 'policy.js');
    writeFileSync(file, `${readFileSync(file, 'utf8')};`);
    const { stdout, stderr, status } = cli(copy, '--against', 'torch', '--json');
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({
      ok: false,
      error: { code: 'LS_CONTRACT_POLICY' },
    });
    expect(stderr).toContain('LS_CONTRACT_POLICY');
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  it('names the export where there is no graph', () => {
    const { stderr, status } = cli(dir, '--against', 'onnx', '--tokens', '16');
    expect(status).toBe(1);
    expect(stderr).toContain('lockstep export');
  });

  it('refuses options that mean nothing', () => {
    for (const wrong of [
      ['--tokens', '1'],
      ['--tolerance', '-1'],
      ['--against', 'llama.cpp'],
      ['--against', 'onnx:int3'],
    ]) {
      expect(cli(dir, ...wrong).status).toBe(2);
    }
  });
});
