// Speed of planning, by one engine in Node and in Python: npx tsx bench/planner.ts [--json FILE]
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { bundlePolicy } from '../src/contract/bundle.ts';
import { packageRoot } from '../src/paths.ts';
import {
  PolicyHost,
  type PolicySource,
  plan,
  planStream,
  Segmenter,
} from '../src/planner/index.ts';
import {
  after,
  anyOf,
  code,
  fixed,
  type Policy,
  paragraphs,
  sentences,
} from '../src/policies/index.ts';
import { loadCorpus } from '../test/helpers/corpus.ts';
import { python } from '../test/helpers/python.ts';

interface Measured {
  boundaries: number;
  /** Until the first sequence can be opened, ms. */
  startMs: number;
  /** One sequence, planned in one call. */
  tokensPerSecond: number;
  /** One token of one sequence a call, microseconds. */
  usPerSinglePush: number;
  /** One token of each of a hundred sequences in one call, ms. */
  msPerBatch: number;
}

const policies: Record<string, Policy> = {
  fixed: fixed({ size: 512 }),
  sentences: sentences(),
  code: code(),
  'anyOf(after(sentences), paragraphs)': anyOf(after(sentences(), 256), paragraphs()),
};
const size = 500_000;
const singles = 20_000;
const sequences = 100;
const steps = 200;
const streamed = 10_000_000;

const { values } = parseArgs({ options: { json: { type: 'string' } } });
const { tokenizer, prose } = await loadCorpus();
const tokens = Array.from({ length: size }, (_, i) => prose[i % prose.length] as number);
const jobs: PolicySource[] = [];
for (const policy of Object.values(policies)) {
  const { source } = await bundlePolicy(policy);
  jobs.push({
    contract: {
      policy: { name: policy.name },
      tables: policy.prepare(tokenizer.vocabulary),
      segment: { min: 16, max: 512, align: 1 },
      tokenizer: { size: tokenizer.vocabulary.size },
    },
    policySource: source,
  });
}
const node = jobs.map(inNode);
const inPythonToo = await inPython();
const stream = await longStream(jobs.at(-1) as PolicySource);
const rows = Object.keys(policies).flatMap((policy, i) => [
  { policy, runtime: 'node', ...(node[i] as Measured) },
  { policy, runtime: 'python', ...(inPythonToo[i] as Measured) },
]);

console.table(
  rows.map((row) => ({
    policy: row.policy,
    runtime: row.runtime,
    'start ms': Math.round(row.startMs),
    'tokens/s': Math.round(row.tokensPerSecond),
    'us a single push': round(row.usPerSinglePush),
    [`ms a call of ${sequences} sequences`]: round(row.msPerBatch),
  })),
);
console.log(
  `A stream of ${streamed.toLocaleString('en')} tokens: ${round(stream.seconds)} s, ${round(stream.grownMiB)} MiB more`,
);
const result = {
  date: new Date().toISOString().slice(0, 10),
  machine: `${os.cpus().length} x ${os.cpus()[0]?.model.trim()}, ${Math.round(os.totalmem() / 2 ** 30)} GiB`,
  node: process.version,
  tokens: size,
  rows,
  stream: { tokens: streamed, ...stream },
};
console.log(JSON.stringify(result));
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(result, null, 2)}\n`);

function inNode(source: PolicySource): Measured {
  const begin = performance.now();
  const host = new PolicyHost(source);
  const startMs = performance.now() - begin;
  plan(host, tokens.slice(0, 1000));
  let boundaries = 0;
  const whole = timed(() => {
    boundaries = plan(host, tokens).length;
  });
  const single = new Segmenter(host);
  const one = timed(() => {
    for (let i = 0; i < singles; i++) single.push(tokens[i] as number);
  });
  const batch = Array.from({ length: sequences }, () => new Segmenter(host));
  const calls = timed(() => {
    for (let step = 0; step < steps; step++) {
      const token = [tokens[step] as number];
      Segmenter.pushBatch(
        batch,
        batch.map(() => token),
      );
    }
  });
  host.close();
  return {
    boundaries,
    startMs,
    tokensPerSecond: (size / whole) * 1e3,
    usPerSinglePush: (one / singles) * 1e3,
    msPerBatch: calls / steps,
  };
}

async function inPython(): Promise<Measured[]> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-bench-'));
  const file = path.join(folder, 'jobs.json');
  await writeFile(file, JSON.stringify({ jobs, tokens, singles, sequences, steps }));
  const { stdout } = await promisify(execFile)(
    python,
    [path.join(packageRoot, 'bench/planner.py'), file],
    { maxBuffer: 1 << 26, env: { ...process.env, PYTHONPATH: path.join(packageRoot, 'python') } },
  );
  await rm(folder, { recursive: true });
  return JSON.parse(stdout) as Measured[];
}

/** Ten million tokens in chunks, and what the process grew by meanwhile. */
async function longStream(source: PolicySource): Promise<{ seconds: number; grownMiB: number }> {
  const host = new PolicyHost(source);
  const chunk = tokens.slice(0, 50_000);
  plan(host, chunk);
  const before = process.memoryUsage.rss();
  const begin = performance.now();
  let most = before;
  const chunks = function* (): Generator<number[]> {
    for (let at = 0; at < streamed; at += chunk.length) yield chunk;
  };
  for await (const _ of planStream(host, chunks()))
    most = Math.max(most, process.memoryUsage.rss());
  host.close();
  return { seconds: (performance.now() - begin) / 1e3, grownMiB: (most - before) / 2 ** 20 };
}

function timed(run: () => void): number {
  const begin = performance.now();
  run();
  return performance.now() - begin;
}

function round(value: number): number {
  return Number(value.toPrecision(3));
}
