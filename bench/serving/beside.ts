// Answers beside a long prompt: how much longer their tokens take while it runs, and how long it takes.
//
// usage: npx tsx bench/serving/beside.ts DIR TEXT [--engines onnx:fp32,torch:float32] [--prompt 8000]
//          [--answers 1,7] [--tokens 64] [--threads 1] [--json FILE]
//
// DIR is an attached and exported checkpoint. A server over a real socket, without memory of prompts; some
// streams write. After `--tokens` tokens of each, another client sends a prompt of `--prompt` tokens of
// TEXT; what counts are the tokens that come until it has its first one, against as many before it. One
// JSON object; only ratios within one run mean anything, and only on a machine that does nothing else.
import { readFile } from 'node:fs/promises';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createParser } from 'eventsource-parser';
import { readContract } from '../../src/checkpoint/index.ts';
import type { Engine } from '../../src/engines/engine.ts';
import { openOnnxEngine, type Precision } from '../../src/engines/onnx.ts';
import { openTorchEngine, type TorchDtype } from '../../src/engines/torch.ts';
import { createServer } from '../../src/server/index.ts';
import { loadTokenizer } from '../../src/tokenizer/tokenizer.ts';
import { record } from './record.ts';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    engines: { type: 'string', default: 'onnx:fp32,torch:float32' },
    prompt: { type: 'string', default: '8000' },
    answers: { type: 'string', default: '1,7' },
    tokens: { type: 'string', default: '64' },
    threads: { type: 'string', default: '1' },
    json: { type: 'string' },
  },
});
const [dir, file] = positionals;
if (dir === undefined || file === undefined) throw new Error('expected DIR and TEXT, got less');
const [promptTokens, tokens, threads] = [values.prompt, values.tokens, values.threads].map(
  Number,
) as [number, number, number];

/** What `report.ts` writes into a table. */
export interface Row {
  engine: string;
  answers: number;
  /** Mean milliseconds from one token to the next of the same answer. */
  aloneMs: number;
  besideMs: number;
  ratio: number;
  /** Longest pause between two tokens. */
  longestAloneMs: number;
  longestBesideMs: number;
  /** Seconds until the first token of the long prompt. */
  promptAloneSeconds: number;
  promptBesideSeconds: number;
}

/** One stream; `at` gets the time of each of its tokens. */
async function stream(
  url: string,
  prompt: number[],
  most: number,
  at: number[],
  leave: AbortSignal,
) {
  const body = {
    prompt,
    max_tokens: most,
    stream: true,
    temperature: 1,
    seed: 7,
    ignore_eos: true,
  };
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: leave,
  });
  if (!response.ok) throw new Error(`expected a stream, got ${await response.text()}`);
  const parser = createParser({ onEvent: () => at.push(performance.now()) });
  const decoder = new TextDecoder();
  for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) {
    parser.feed(decoder.decode(part, { stream: true }));
  }
}

const gapsOf = (at: number[]) => at.slice(1).map((time, i) => time - (at[i] as number));
const mean = (list: number[]) => list.reduce((a, b) => a + b, 0) / list.length;

async function firstToken(url: string, prompt: number[]): Promise<number> {
  const at: number[] = [];
  const since = performance.now();
  await stream(url, prompt, 1, at, new AbortController().signal);
  return (at[0] as number) - since;
}

async function measure(url: string, ids: number[], answers: number): Promise<Omit<Row, 'engine'>> {
  const long = ids.slice(0, promptTokens);
  const promptAlone = await firstToken(url, long);
  const leave = new AbortController();
  let failed: unknown;
  const times = Array.from({ length: answers }, (): number[] => []);
  const streams = times.map((at, i) =>
    stream(url, ids.slice(i, i + 32), 20_000, at, leave.signal).catch((error: unknown) => {
      // Left on purpose, or something is wrong.
      if (!leave.signal.aborted) failed = error;
    }),
  );
  while (times.some((at) => at.length < tokens + 8)) {
    if (failed !== undefined) throw failed;
    await sleep(20);
  }
  const start = performance.now();
  const promptBeside = await firstToken(url, long);
  const end = start + promptBeside;
  leave.abort();
  await Promise.all(streams);
  // The first tokens of each ran beside the prompts of the others.
  const alone = times.flatMap((at) => gapsOf(at.filter((time) => time < start).slice(8)));
  const beside = times.flatMap((at) => gapsOf(at.filter((time) => time >= start && time <= end)));
  return {
    answers,
    aloneMs: mean(alone),
    besideMs: mean(beside),
    ratio: mean(beside) / mean(alone),
    longestAloneMs: Math.max(...alone),
    longestBesideMs: Math.max(...beside),
    promptAloneSeconds: promptAlone / 1000,
    promptBesideSeconds: promptBeside / 1000,
  };
}

function open(name: string): Promise<Engine> {
  const [kind, precision] = name.split(':') as [string, string];
  const options = { threads, maxSessions: 32 };
  if (kind === 'onnx') {
    return openOnnxEngine(dir as string, { ...options, precision: precision as Precision });
  }
  return openTorchEngine(dir as string, { ...options, dtype: precision as TorchDtype });
}

const tokenizer = await loadTokenizer(dir);
const contract = await readContract(dir);
const ids = Array.from(await tokenizer.encode(await readFile(file, 'utf8')));
if (ids.length < promptTokens) throw new Error(`expected ${promptTokens} tokens in ${file}`);
const rows: Row[] = [];
for (const engine of values.engines.split(',')) {
  const server = createServer({
    engine: await open(engine),
    tokenizer,
    contract,
    options: { cacheBytes: 0, maxSessions: 16, maxTokens: promptTokens + 32_768 },
  });
  const { url } = await server.listen(0);
  for (const answers of values.answers.split(',').map(Number)) {
    const row = { engine, ...(await measure(url, ids, answers)) };
    rows.push(row);
    process.stderr.write(`${JSON.stringify(row)}\n`);
  }
  await server.close();
}
const result = { load: os.loadavg()[0], threads, promptTokens, rows };
process.stdout.write(`${JSON.stringify(result)}\n`);
if (values.json !== undefined) record('beside', result, values.json);
