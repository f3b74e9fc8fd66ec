// What the choice of rows costs at a boundary: its share of the time of a segment, as the pool grows.
//
// usage: npx tsx bench/recall/scoring.ts DIR TEXT [--tokens 4096,16384,32768] [--threads 1] [--repeat 5]
//
// DIR is an attached and exported checkpoint whose contract has `blocks`. Rows are random, as time does not depend on
// them. Scoring: the graph's masses of blocks. Closing: what follows, the best blocks and their rows. A segment: S
// tokens of TEXT behind as many others, boundary and all, run by the onnx engine. Writes `raw/scoring.json`.
import { readFile, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { readContract } from '../../src/checkpoint/index.ts';
import { BlocksGraph } from '../../src/engines/onnx/blocks.ts';
import { graphFolder, readGraph } from '../../src/engines/onnx/meta.ts';
import { openOnnxEngine } from '../../src/engines/onnx.ts';
import { layoutOf, type RawRows, SequenceState } from '../../src/state/index.ts';
import { loadTokenizer } from '../../src/tokenizer/tokenizer.ts';
import { median } from '../median.ts';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    tokens: { type: 'string', default: '4096,16384,32768' },
    threads: { type: 'string', default: '1' },
    repeat: { type: 'string', default: '5' },
  },
});
const [dir, file] = positionals;
if (dir === undefined || file === undefined) throw new Error('expected DIR and TEXT, got less');
const threads = Number(values.threads);
const marks = values.tokens.split(',').map(Number);

const { contract } = await readContract(dir);
const { model } = await readGraph(dir, 'fp32', contract);
const layout = layoutOf(contract, model);
const rotation = { inverseFrequencies: model.invFreq, factor: model.attentionFactor };
const graph = await BlocksGraph.load({
  graph: path.join(graphFolder(dir, 'fp32'), 'step.onnx'),
  layout,
  rotation,
  vocabulary: model.vocabulary,
  threads,
  pieceTokens: 128,
  prepack: false,
  flags: new Int32Array(new SharedArrayBuffer(8)),
});
const { segment, headDim, queryHeads, kvHeads } = layout;

const random = (length: number): Float32Array => Float32Array.from({ length }, Math.random);

/** A pool of this many tokens; then its boundaries, each a segment later. */
async function boundaries(tokens: number): Promise<{ scoring: number; closing: number }> {
  const state = new SequenceState(layout, rotation);
  const rows: RawRows = {
    queries: random((segment * headDim * queryHeads) / kvHeads),
    keys: random(segment * headDim),
  };
  const scoring: number[] = [];
  const closing: number[] = [];
  while (closing.length < Number(values.repeat)) {
    state.prepare(segment);
    state.advance(segment, () => rows);
    const started = performance.now();
    const found = await graph.of(state);
    const scored = performance.now();
    state.close(found);
    if (state.position < tokens) continue;
    scoring.push(scored - started);
    closing.push(performance.now() - scored);
  }
  return { scoring: median(scoring), closing: median(closing) };
}

const tokenizer = await loadTokenizer(dir);
const ids = await tokenizer.encode(await readFile(file, 'utf8'));
const engine = await openOnnxEngine(dir, { threads });
const session = await engine.open();
let at = 0;
/** One segment and its boundary, in milliseconds. */
async function run(): Promise<number> {
  const started = performance.now();
  await session.step(ids.slice(at, at + segment), { rows: 'last', close: true });
  at += segment;
  return performance.now() - started;
}
const rows: object[] = [];
for (const tokens of marks) {
  while (at < tokens) await run();
  const times: number[] = [];
  while (times.length < Number(values.repeat)) times.push(await run());
  const whole = median(times);
  const { scoring, closing } = await boundaries(tokens);
  rows.push({ tokens, segment: whole, scoring, closing, share: scoring / whole });
  console.log(JSON.stringify(rows.at(-1)));
}
await session.close();
await engine.close();
const report = {
  command: 'npx tsx bench/recall/scoring.ts DIR TEXT',
  date: new Date().toISOString().slice(0, 10),
  machine: `${os.cpus()[0]?.model.trim()}, ${os.cpus().length} cores`,
  threads,
  digest: contract.digest,
  rows,
};
const out = path.join(import.meta.dirname, 'raw', 'scoring.json');
await writeFile(out, `${JSON.stringify(report)}\n`);
