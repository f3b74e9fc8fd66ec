// What the relay adds to vLLM's time to first token and to each chunk, against direct access.
//
// usage: tsx bench/vllm/relay.ts CHECKPOINT [--rounds N] [--streams 1,16,64] [--json FILE] [-- vLLM flags]
//
// One vLLM runs; `lockstep serve --upstream` stands in front of it as a process of its own; the client
// is this process. A round asks the same prompts with the same seeds once directly and once through the
// relay, in turns first. The prompts of two askings differ in their first token alone, so that neither
// finds the other's prefix in the cache.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Pool } from 'undici';
import { findPython, type ServiceExit, startService } from '../../src/bridge/index.ts';
import { PLUGIN_ENVIRONMENT } from '../../src/engines/vllm/identity.ts';
import { vllmCommand, vllmModules } from '../../src/engines/vllm/index.ts';
import { packageRoot } from '../../src/paths.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string', default: '24' },
    streams: { type: 'string', default: '1,16,64' },
    tokens: { type: 'string', default: '24' },
    prompt: { type: 'string', default: '64' },
    port: { type: 'string', default: '18701' },
    json: { type: 'string' },
  },
});
const [dir, ...flags] = positionals as [string, ...string[]];
/** Rounds of a row: fewer where each asks more, three at least. */
const roundsOf = (streams: number): number =>
  Math.max(3, Math.ceil(Number(values.rounds) / streams));
const tokens = Number(values.tokens);
const promptTokens = Number(values.prompt);
const port = Number(values.port);

interface Asked {
  firstMs: number;
  gapsMs: number[];
}

/** One stream: milliseconds to the first chunk with a token, and between chunks. */
async function ask(pool: Pool, first: number, seed: number): Promise<Asked> {
  const prompt = Array.from({ length: promptTokens }, (_, i) => 40 + ((i * 7 + seed) % 60));
  prompt[0] = first;
  const began = performance.now();
  const { statusCode, body } = await pool.request({
    path: '/v1/completions',
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      prompt,
      max_tokens: tokens,
      ignore_eos: true,
      temperature: 0,
      seed,
      stream: true,
      // One chunk a token in both: without it the relay holds back bytes that are no character yet.
      logprobs: 0,
    }),
  });
  const times: number[] = [];
  let rest = '';
  for await (const bytes of body) {
    const now = performance.now();
    rest += String(bytes);
    const events = rest.split('\n\n');
    rest = events.pop() ?? '';
    for (const event of events) {
      if (event.startsWith('data: {"') && !event.includes('"error"')) times.push(now);
    }
  }
  if (statusCode !== 200 || times.length === 0)
    throw new Error(`HTTP ${statusCode}: ${rest.slice(0, 300)}`);
  return {
    firstMs: (times[0] as number) - began,
    gapsMs: times.slice(1).map((time, i) => time - (times[i] as number)),
  };
}

function quantile(list: readonly number[], share: number): number {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

async function relayTo(upstream: string): Promise<{ child: ChildProcess; url: string }> {
  const child = spawn(
    process.execPath,
    [
      ...[path.join(packageRoot, 'dist/cli/main.js'), 'serve', dir, '--engine', 'vllm'],
      ...['--upstream', upstream, '--port', '0', '--json'],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const [line] = await once(
    createInterface({ input: child.stdout as NodeJS.ReadableStream }),
    'line',
  );
  return { child, url: (JSON.parse(line) as { url: string }).url };
}

async function until200(url: string): Promise<void> {
  let end: ServiceExit | null = null;
  void service.exited.then((exit) => {
    end = exit;
  });
  while (end === null) {
    const status = await fetch(url).then(
      (response) => response.status,
      () => 0,
    );
    if (status === 200) return;
    await sleep(500);
  }
  const { code, signal, lines } = end as ServiceExit;
  throw new Error(`vLLM ended (${code ?? signal}): ${lines.join('\n')}`);
}

const python = await findPython({ modules: vllmModules });
const service = await startService({
  python,
  command: vllmCommand({
    dir: path.resolve(dir),
    model: 'bench',
    at: port,
    dtype: 'float32',
    maxTokens: promptTokens + tokens + 8,
    flags,
  }),
  env: { ...process.env, ...PLUGIN_ENVIRONMENT, VLLM_ALLOW_LONG_MAX_MODEL_LEN: '1' },
});
let relay: Awaited<ReturnType<typeof relayTo>> | null = null;
try {
  const upstream = `http://127.0.0.1:${port}`;
  await until200(`${upstream}/health`);
  relay = await relayTo(upstream);
  await until200(`${relay.url}/health/ready`);
  const pools = { direct: new Pool(upstream), relay: new Pool(relay.url) };
  const rows: object[] = [];
  for (const streams of values.streams.split(',').map(Number)) {
    const all = { direct: [] as Asked[], relay: [] as Asked[] };
    const rounds = roundsOf(streams);
    for (let round = -2; round < rounds; round++) {
      const order =
        round % 2 === 0 ? (['direct', 'relay'] as const) : (['relay', 'direct'] as const);
      for (const [turn, way] of order.entries()) {
        const asked = await Promise.all(
          Array.from({ length: streams }, (_, i) =>
            ask(pools[way], 3 + turn, (round + 2) * 97 + i),
          ),
        );
        // The first two rounds warm up.
        if (round >= 0) all[way].push(...asked);
      }
    }
    const of = (way: 'direct' | 'relay') => {
      const first = all[way].map((one) => one.firstMs);
      const gaps = all[way].flatMap((one) => one.gapsMs);
      return {
        firstP50: quantile(first, 0.5),
        firstP99: quantile(first, 0.99),
        chunkP50: quantile(gaps, 0.5),
        chunkP99: quantile(gaps, 0.99),
        chunks: gaps.length,
      };
    };
    const added = all.relay.map((one, i) => one.firstMs - (all.direct[i]?.firstMs ?? Number.NaN));
    const row = {
      streams,
      rounds,
      direct: of('direct'),
      relay: of('relay'),
      addedFirstP50: quantile(added, 0.5),
      addedFirstP99: quantile(added, 0.99),
    };
    rows.push(row);
    console.log(JSON.stringify(row));
  }
  if (values.json !== undefined) {
    mkdirSync(path.dirname(values.json), { recursive: true });
    const commit = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' });
    const made = {
      command: `tsx bench/vllm/relay.ts CHECKPOINT --rounds ${values.rounds} --streams ${values.streams} -- ${flags.join(' ')}`,
      date: new Date().toISOString().slice(0, 10),
      machine: `${cpus()[0]?.model.trim()}, ${cpus().length} cores`,
      node: process.version,
      commit: commit.stdout.trim(),
      promptTokens,
      tokens,
      rows,
    };
    writeFileSync(values.json, `${JSON.stringify(made, null, 2)}\n`);
  }
  await Promise.all(Object.values(pools).map((pool) => pool.close()));
} finally {
  relay?.child.kill('SIGTERM');
  await service.stop();
}
