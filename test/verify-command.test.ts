// `lockstep verify` as a command: what it prints, and how it exits.
import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import type { EngineReport } from '../src/engines/verify/index.ts';
import { packageRoot } from '../src/paths.ts';
import { useVerified } from './verify-fixture.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

const made = useVerified();

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
    const { stdout, status } = cli(made.dir, '--against', 'torch', '--tokens', '64', '--json');
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
      made.dir,
      '--against',
      'torch',
      '--tokens',
      '64',
      '--tolerance',
      '1e-12',
    );
    expect(status).toBe(1);
    expect(stdout).toMatch(
      /first difference at position \d+: log p of ".*": trainer -?\d+\.\d{6}, engine/,
    );
    expect(stdout).toContain('not consistent: torch float32');
  });

  it('exits 1 for a checkpoint that cannot be trusted, in JSON too', () => {
    const copy = path.join(made.folder, 'untrusted');
    cpSync(made.dir, copy, { recursive: true });
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
    const { stderr, status } = cli(made.dir, '--against', 'onnx', '--tokens', '16');
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
      expect(cli(made.dir, ...wrong).status).toBe(2);
    }
  });
});
