import { describe, expect, it } from 'vitest';
import { Comparison } from './compare.ts';
import { failingMargin, greedyMargin, type Limits, limitsOf } from './limits.ts';
import type { TrainerRun } from './trainer.ts';

/** A trainer that gives every token of `rows` these logits; its best lists hold all of them. */
function trainer(ids: number[], rows: number[][]): TrainerRun {
  const best = rows[0]?.length ?? 0;
  const logps = rows.map(logSoftmax);
  const order = logps.map((row) =>
    row.map((_, i) => i).sort((a, b) => (row[b] ?? 0) - (row[a] ?? 0)),
  );
  return {
    ids: Int32Array.from(ids),
    boundaries: [],
    retrieved: new Map(),
    observed: Float64Array.from(ids.slice(1).map((id, t) => logps[t]?.[id] ?? Number.NaN)),
    best,
    bestIds: Int32Array.from(order.flat()),
    bestLogp: Float64Array.from(order.flatMap((list, t) => list.map((id) => logps[t]?.[id] ?? 0))),
    folder: '',
  };
}

function logSoftmax(row: number[]): number[] {
  const sum = Math.log(row.reduce((total, value) => total + Math.exp(value), 0));
  return row.map((value) => value - sum);
}

const limits: Limits = { kind: 'largest', tolerance: 5e-3, gap: 1e-3 };
const rows = [
  [1, 2, 3],
  [0, 5, 1],
  [2, 2.005, 0],
];
const compare = (own: number[][], most = limits) => {
  const comparison = new Comparison(trainer([0, 1, 2], rows), most, (token) => `<${token}>`);
  own.forEach((row, t) => {
    comparison.logits(t, Float32Array.from(row));
  });
  return comparison;
};

describe('Comparison', () => {
  it('finds equal logits equal, whatever constant is added', () => {
    const report = compare(rows.map((row) => row.map((value) => value + 30))).report(
      'onnx',
      'fp32',
    );
    expect(report).toMatchObject({
      ok: true,
      tokens: 3,
      greedyMismatches: 0,
      firstDivergence: null,
    });
    expect(report.maxAbsDlogp).toBeLessThan(1e-5);
  });

  it('names the first place above the tolerance and the worst one', () => {
    const off = rows.map((row) => [...row]);
    (off[1] as number[])[2] = 1.5;
    (off[2] as number[])[2] = 3;
    const report = compare(off).report('onnx', 'fp32');
    expect(report.ok).toBe(false);
    expect(report.firstDivergence).toMatchObject({ kind: 'logp', position: 1 });
    expect(report.worst?.position).toBe(2);
    expect(report.maxAbsDlogp).toBeCloseTo(
      Math.abs((report.worst?.trainer as number) - (report.worst?.engine as number)),
      9,
    );
  });

  it('takes NaN as the largest difference, in numbers that JSON can hold', () => {
    const report = compare([[1, Number.NaN, 3], ...rows.slice(1)]).report('onnx', 'fp32');
    expect(report.ok).toBe(false);
    expect(report.maxAbsDlogp).toBe(Number.MAX_VALUE);
    expect(report.greedyMismatches).toBe(1);
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
  });

  it('counts a greedy mismatch only where the trainer was sure', () => {
    // Row 2: the trainer's two best are 0.005 apart; row 1: 4 apart.
    const nearTie = compare([rows[0], rows[1], [2.005, 2, 0]] as number[][], {
      kind: 'largest',
      tolerance: 1e-2,
      gap: 0,
    });
    expect(nearTie.report('onnx', 'fp32')).toMatchObject({ ok: true, greedyMismatches: 0 });
    const sure = compare([rows[0], [5, 0, 1], rows[2]] as number[][], {
      kind: 'largest',
      tolerance: 10,
      gap: 0,
    });
    // Within a tolerance of 10 nats a flip of 5 is no failure, but it is counted.
    expect(sure.report('onnx', 'int4')).toMatchObject({ ok: true, greedyMismatches: 1 });
    expect(failingMargin(limits)).toBe(greedyMargin);
  });

  it('judges a rounded model by the mean: a few places may be far off', () => {
    const own = [rows[0], [5, 0, 1], rows[2]] as number[][];
    const exact = compare(own).report('onnx', 'fp32');
    const judged = (tolerance: number) =>
      compare(own, { kind: 'mean', tolerance, gap: 0 }).report('onnx', 'int8');
    const above = judged(exact.meanAbsDlogp * 1.01);
    expect(above).toMatchObject({ ok: true, limited: 'mean', greedyMismatches: 1 });
    expect(above.maxAbsDlogp).toBeGreaterThan(2 * above.meanAbsDlogp);
    expect(above.firstDivergence).toBeNull();
    expect(judged(exact.meanAbsDlogp * 0.99).ok).toBe(false);
  });

  it('fails on any boundary that differs', () => {
    const comparison = compare(rows);
    comparison.boundary(1, true, true);
    expect(comparison.report('onnx', 'fp32').ok).toBe(true);
    comparison.boundary(1, true, false);
    comparison.boundary(2, false, true);
    expect(comparison.report('onnx', 'fp32')).toMatchObject({
      ok: false,
      boundaryMismatches: 2,
      firstDivergence: {
        kind: 'boundary',
        position: 1,
        trainer: 'no cut',
        engine: 'cut',
        text: '<1>',
      },
    });
  });

  it('passes a retrieval mismatch below the bound and fails one above it', () => {
    const comparison = compare(rows);
    comparison.retrieval(2, 1, 0, 9e-4, ['a', 'b']);
    expect(comparison.report('onnx', 'fp32')).toMatchObject({
      ok: true,
      retrievalMismatches: 1,
      nearTies: 1,
      unexplainedRetrievals: 0,
      largestGap: 9e-4,
    });
    comparison.retrieval(2, 1, 1, Number.POSITIVE_INFINITY, ['a', 'b']);
    expect(comparison.report('onnx', 'fp32')).toMatchObject({
      ok: false,
      retrievalMismatches: 2,
      nearTies: 1,
      unexplainedRetrievals: 1,
      largestGap: Number.MAX_VALUE,
    });
  });

  it('passes any retrieval where no bound is stated, and says so in JSON', () => {
    const comparison = compare(rows, { ...limits, gap: Number.POSITIVE_INFINITY });
    comparison.retrieval(2, 1, 0, Number.POSITIVE_INFINITY, ['a', 'b']);
    const report = comparison.report('onnx', 'int4');
    expect(report).toMatchObject({ ok: true, retrievalMismatches: 1, gapBound: null });
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
  });

  it('fails when an engine stopped early', () => {
    expect(compare(rows.slice(0, 2)).report('onnx', 'fp32').ok).toBe(false);
  });
});

describe('limitsOf', () => {
  it('has the published tolerances', () => {
    expect(limitsOf('torch', 'float32').tolerance).toBe(1e-3);
    expect(limitsOf('onnx', 'fp32').tolerance).toBe(5e-3);
    expect(limitsOf('onnx', 'int8')).toMatchObject({ kind: 'mean', tolerance: 0.5 });
    expect(limitsOf('else', 'fp32').tolerance).toBe(5e-3);
  });
});
