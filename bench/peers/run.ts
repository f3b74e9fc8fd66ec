// llama.cpp beside the onnx engine: the same weights, text, threads and marks.
//
// usage: npx tsx bench/peers/run.ts [--tokens 1024,4096,8192] [--decode 32] [--threads 1]
//
// llama.cpp runs the GGUF file (Q4_1) with full attention; Lockstep the float32 weights made from that file,
// attached and untrained, under the quickstart's contract. Writes bench/raw/peers.json.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { readContract } from '../../src/checkpoint/index.ts';
import { openOnnxEngine, type Precision } from '../../src/engines/onnx.ts';
import { Sequence } from '../../src/engines/sequence.ts';
import { packageRoot } from '../../src/paths.ts';
import { Segmenter } from '../../src/planner/index.ts';
import { loadTokenizer } from '../../src/tokenizer/tokenizer.ts';

const { values } = parseArgs({
  options: {
    tokens: { type: 'string', default: '1024,4096,8192' },
    decode: { type: 'string', default: '32' },
    threads: { type: 'string', default: '1' },
  },
});
const marks = values.tokens.split(',').map(Number);
const threads = Number(values.threads);
const precisions: Precision[] = ['int8', 'fp32'];
const dir = path.join(packageRoot, '.lockstep', 'runs', 'peers');
const text = path.join(packageRoot, '.lockstep', 'texts', 'milton', 'paradiselost.txt');
const cli = path.join(packageRoot, 'dist', 'cli', 'main.js');
const raw = path.join(packageRoot, 'bench', 'raw');
const run = promisify(execFile);

/** Run Node; the last line of stdout, parsed. */
async function node<T>(...args: string[]): Promise<T> {
  const { stdout } = await run(process.execPath, args, { cwd: packageRoot, maxBuffer: 1 << 26 });
  return JSON.parse(stdout.trim().split('\n').at(-1) as string) as T;
}

async function checkpoint(): Promise<void> {
  const config = path.join(packageRoot, 'examples', 'quickstart', 'lockstep.config.ts');
  const model = path.join(packageRoot, '.lockstep', 'models', 'smollm2-135m-instruct');
  if (!existsSync(dir)) {
    await run(process.execPath, [
      cli,
      'attach',
      model,
      '--config',
      config,
      '--out',
      dir,
      '--no-probe',
    ]);
  }
  if (existsSync(path.join(dir, 'onnx'))) return;
  await run(process.execPath, [cli, 'export', dir, '--precision', precisions.join()]);
}

/** e to the mean of -log p(token | those before), over the first tokens up to each mark. */
function perplexity(logps: readonly number[]): Record<string, number> {
  return Object.fromEntries(
    marks.map((mark) => {
      const part = logps.slice(0, mark - 1);
      return [mark, Math.exp(-part.reduce((sum, one) => sum + one, 0) / part.length)];
    }),
  );
}

/** log p of every token but the first. */
async function logpsOf(precision: Precision, ids: Int32Array): Promise<number[]> {
  const engine = await openOnnxEngine(dir, { precision, threads });
  const sequence = new Sequence(await engine.open(), new Segmenter(await readContract(dir)));
  const logps: number[] = [];
  for await (const { from, tokens, logits, rows } of sequence.run(ids, { rows: 'all' })) {
    const width = logits.length / rows;
    for (let i = 0; i < tokens.length && from + i + 1 < ids.length; i++) {
      const row = logits.subarray(i * width, (i + 1) * width);
      const most = row.reduce((a, b) => Math.max(a, b));
      const total = row.reduce((sum, one) => sum + Math.exp(one - most), 0);
      logps.push((row[ids[from + i + 1] as number] as number) - most - Math.log(total));
    }
  }
  await sequence.close();
  await engine.close();
  return logps;
}

await checkpoint();
const longest = Math.max(...marks);
const every = await (await loadTokenizer(dir)).encode(await readFile(text, 'utf8'));
const ids = Int32Array.from(every.slice(0, longest + Number(values.decode)));
const file = path.join(packageRoot, '.lockstep', 'peers', 'ids.json');
await mkdir(path.dirname(file), { recursive: true });
await writeFile(file, JSON.stringify([...ids]));

const asked = [values.tokens, values.decode, values.threads] as const;
const { logps, ...llama } = await node<{ logps: number[] }>(
  'bench/peers/llama.mjs',
  file,
  ...asked,
);
const engines = precisions.map((precision) => `onnx:${precision}`).join();
const { rows } = await node<{ rows: object[] }>(
  ...['--import', 'tsx', 'bench/engines.ts', dir, text, '--engines', engines],
  ...['--tokens', values.tokens, '--decode', values.decode, '--threads', values.threads],
);
const perplexities: Record<string, Record<string, number>> = {};
for (const precision of precisions) {
  perplexities[precision] = perplexity(await logpsOf(precision, ids.subarray(0, longest)));
}
const full = await node<{ perplexity: Record<string, { full: number }> }>(
  ...[cli, 'perplexity', dir, '--text', text, '--tokens', values.tokens],
  ...['--attention', 'full', '--json'],
);
perplexities['full'] = Object.fromEntries(
  Object.entries(full.perplexity).map(([mark, row]) => [mark, row.full]),
);
const result = {
  command: 'npm run bench -- peers',
  date: new Date().toISOString().slice(0, 10),
  machine: { cpu: os.cpus()[0]?.model, cores: os.cpus().length, load: os.loadavg()[0], threads },
  llama: { ...llama, perplexity: perplexity(logps) },
  rows,
  perplexity: perplexities,
};
await mkdir(raw, { recursive: true });
await writeFile(path.join(raw, 'peers.json'), `${JSON.stringify(result, null, 1)}\n`);
console.log(JSON.stringify(result));
process.exit(0);
