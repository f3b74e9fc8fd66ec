// Engines on SmolLM2: prefill and decode of onnx and torch, and time per token as the context grows.
//
// usage: npx tsx bench/engines.ts DIR TEXT [--engines onnx:fp32,onnx:int8,onnx:int4,torch:float32]
//          [--tokens 1024,4096,16384,32768] [--threads 1] [--decode 32] [--json FILE]
//
// DIR is an attached and exported checkpoint. Each engine runs the text through its policy's cuts; at
// each mark the next `--decode` tokens are run one at a time, as decoding does, and their times taken.
// One JSON object a line, the last one the table's rows. Only ratios within one run mean anything.
import { readFile, writeFile } from 'node:fs/promises';
import os from 'node:os';
import { parseArgs } from 'node:util';
import { readContract } from '../src/checkpoint/index.ts';
import type { Engine } from '../src/engines/engine.ts';
import { openOnnxEngine, type Precision } from '../src/engines/onnx.ts';
import { Sequence } from '../src/engines/sequence.ts';
import { openTorchEngine, type TorchDtype } from '../src/engines/torch.ts';
import { Segmenter } from '../src/planner/index.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    engines: { type: 'string', default: 'onnx:fp32,onnx:int8,onnx:int4,torch:float32' },
    tokens: { type: 'string', default: '1024,4096,16384,32768' },
    threads: { type: 'string', default: '1' },
    decode: { type: 'string', default: '32' },
    json: { type: 'string' },
  },
});
const [dir, text] = positionals;
if (dir === undefined || text === undefined) throw new Error('expected DIR and TEXT, got less');
const threads = Number(values.threads);
const decode = Number(values.decode);
const marks = values.tokens.split(',').map(Number);

interface Row {
  engine: string;
  context: number;
  /** Since the mark before: tokens/s of whole pieces. */
  prefillPerSecond: number;
  /** Median over the decoded tokens, ms; the mean has boundaries in it. */
  decodeMs: number;
  /** The quickest token: what a machine that does nothing else comes to. */
  decodeBestMs: number;
  decodeMeanMs: number;
  /** Bytes held for the sequence, and what full attention would hold. */
  held: number;
  fullAttention: number;
}

function open(name: string): Promise<Engine> {
  const [kind, precision] = name.split(':') as [string, string];
  if (kind === 'onnx') {
    return openOnnxEngine(dir as string, { precision: precision as Precision, threads });
  }
  return openTorchEngine(dir as string, { dtype: precision as TorchDtype, threads });
}

async function measure(name: string, ids: Int32Array): Promise<Row[]> {
  const files = await readContract(dir as string);
  const engine = await open(name);
  const warm = await engine.open();
  await warm.step(ids.slice(0, 64), { rows: 'last', close: false });
  await warm.step(ids.slice(64, 65), { rows: 'last', close: false });
  await warm.close();
  const sequence = new Sequence(await engine.open(), new Segmenter(files));
  const rows: Row[] = [];
  for (const mark of marks) {
    const from = sequence.position;
    let started = performance.now();
    await sequence.feed(ids.subarray(from, mark));
    const prefillPerSecond = ((mark - from) / (performance.now() - started)) * 1000;
    const times: number[] = [];
    for (let i = mark; i < mark + decode; i++) {
      started = performance.now();
      await sequence.feed(ids.subarray(i, i + 1));
      times.push(performance.now() - started);
    }
    const mean = times.reduce((a, b) => a + b, 0) / times.length;
    const median = times.sort((a, b) => a - b)[Math.floor(times.length / 2)] as number;
    const { total, fullAttention } = await sequence.session.memory();
    const row = {
      engine: name,
      context: mark,
      prefillPerSecond: round(prefillPerSecond),
      decodeMs: round(median),
      decodeBestMs: round(times[0] as number),
      decodeMeanMs: round(mean),
      held: total,
      fullAttention,
    };
    console.log(JSON.stringify(row));
    rows.push(row);
  }
  await sequence.close();
  await engine.close();
  return rows;
}

const round = (value: number): number => Math.round(value * 10) / 10;

const tokenizer = await loadTokenizer(dir);
const once = await tokenizer.encode(await readFile(text, 'utf8'));
const wanted = Math.max(...marks) + decode;
const ids = Int32Array.from({ length: wanted }, (_, i) => once[i % once.length] as number);
const rows: Row[] = [];
for (const name of values.engines.split(',')) rows.push(...(await measure(name, ids)));
const machine = {
  cpu: os.cpus()[0]?.model,
  cores: os.cpus().length,
  load: os.loadavg()[0],
  threads,
};
const result = {
  command: `npx tsx bench/engines.ts DIR TEXT --engines ${values.engines} --tokens ${values.tokens}`,
  date: new Date().toISOString().slice(0, 10),
  machine,
  rows,
};
console.log(JSON.stringify(result));
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(result, null, 1)}\n`);
process.exit(0);
