// verify judges engines: it passes those that compute what the checkpoint says, and finds each fault.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { type ContractSettings, readContract } from '../src/checkpoint/index.ts';
import { type EngineReport, verify } from '../src/engines/verify/index.ts';
import { posing, shifted, straying } from './faulty-engines.ts';
import { settings, useVerified } from './verify-fixture.ts';

// Every comparison starts several interpreters that import torch.
vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

const tokens = 160;
const made = useVerified();

describe('verify', () => {
  it('passes the torch engine and fails every engine that computes something else', async () => {
    const edited = path.join(made.folder, 'edited-model');
    cpSync(made.model, edited, { recursive: true });
    // The last float of the file, a weight of the final norm or of the last layer.
    const weights = path.join(edited, 'model.safetensors');
    const data = readFileSync(weights);
    data.writeFloatLE(data.readFloatLE(data.length - 4) + 0.25, data.length - 4);
    writeFileSync(weights, data);
    const replaced: number[] = [];
    const stages = new Set<string>();
    const report = await verify({
      dir: made.dir,
      tokens,
      python: made.python,
      threads: 1,
      engines: new Map([
        ['torch', made.torch],
        [
          'carry off by one',
          posing(
            made.torch,
            await made.attached('carry', made.model, { carry: { size: 13, sinks: 4 } }),
          ),
        ],
        [
          'retrieval off by one',
          posing(
            made.torch,
            await made.attached('size', made.model, {
              retrieval: { ...settings.retrieval, size: 23 },
            }),
          ),
        ],
        ['weights', posing(made.torch, await made.attached('weights', edited))],
        ['straying', straying(made.torch, replaced)],
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
      precision: 'float32',
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
    const first = sentencesEnd(made.dir);
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
    const sizes = { block: 8, distance: 30, window: 16 };
    const retrieval = { size: 16, recipe: 'blocks' as const, layers: [1, 3], ...sizes };
    const carry = { size: 12, sinks: 4, heads: 'all' as const };
    const other = async (name: string, change: Partial<ContractSettings>) =>
      posing(made.torch, await made.attached(name, made.model, { retrieval, carry, ...change }));
    const replaced: number[] = [];
    const report = await verify({
      dir: await made.attached('blocks', made.model, { retrieval, carry }),
      tokens,
      python: made.python,
      threads: 1,
      engines: new Map([
        ['torch', made.torch],
        ['window', await other('window', { retrieval: { ...retrieval, window: 2 } })],
        ['distance', await other('distance', { retrieval: { ...retrieval, distance: 2 } })],
        ['local', await other('local', { carry: { size: 12, sinks: 4 } })],
        ['straying', straying(made.torch, replaced)],
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

  it('sees a fault of prompts alone, and one of decoding alone', async () => {
    const engines = new Map([
      ['prompts', shifted(made.torch, (count) => count > 1)],
      ['decoding', shifted(made.torch, (count) => count === 1)],
    ]);
    const report = await verify({
      dir: made.dir,
      tokens,
      python: made.python,
      threads: 1,
      engines,
    });
    const places = report.engines.map((one) => one.firstDivergence?.position ?? -1);
    expect(report.engines.map(({ ok }) => ok)).toEqual([false, false]);
    expect(places[0]).toBe(0);
    expect(places[1]).toBeGreaterThan(1);
    expect(places[1]).toBeLessThanOrEqual(tokens / 2);
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
