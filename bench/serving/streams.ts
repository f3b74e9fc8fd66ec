// Faulty streams of vLLM: what the relay's parser calls complete, and what clients of `lockstep serve` and
// of LiteLLM's proxy see of the same streams over real sockets.
//
// usage: npx tsx bench/serving/streams.ts [--parser 1000000] [--sockets 2000] [--litellm 2000] [--seed 1]
//
// `--litellm 0` leaves LiteLLM out. Writes raw/streams.json; `npx tsx bench/serving/report.ts` writes
// RESULTS.md from it. The faults and what counts as false are in test/streams.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeToy } from '../../test/server-toy.ts';
import { askMany, type SeenTally } from '../../test/streams/client.ts';
import { judgeMany, type Tally } from '../../test/streams/judge.ts';
import { faultyUpstream } from '../../test/streams/upstream.ts';
import { Opened } from '../../test/vllm-upstream.ts';
import { LITELLM, startLitellm } from './litellm.ts';
import { record } from './record.ts';

const { values } = parseArgs({
  options: {
    parser: { type: 'string', default: '1000000' },
    sockets: { type: 'string', default: '2000' },
    litellm: { type: 'string', default: '2000' },
    seed: { type: 'string', default: '1' },
    part: { type: 'string' },
  },
});
const [seed, parser] = [Number(values.seed), Number(values.parser)];

/** All seeds, a share of them in a process for each core. */
async function parse(): Promise<Tally> {
  const jobs = Math.min(os.cpus().length, Math.max(1, Math.floor(parser / 1000)));
  const share = Math.ceil(parser / jobs);
  const tallies = await Promise.all(
    Array.from({ length: jobs }, async (_, i) => {
      const from = seed + i * share;
      const count = Math.min(share, seed + parser - from);
      const child = fork(fileURLToPath(import.meta.url), ['--part', `${from}:${count}`]);
      const [tally] = (await once(child, 'message')) as [Tally];
      return tally;
    }),
  );
  return tallies.reduce(merged);
}

function merged(a: Tally, b: Tally): Tally {
  const verdicts = { ...a.verdicts };
  for (const name of Object.keys(b.verdicts) as (keyof typeof verdicts)[]) {
    verdicts[name] += b.verdicts[name];
  }
  const faults = { ...a.faults };
  for (const [name, row] of Object.entries(b.faults)) {
    const own = faults[name] ?? { complete: 0, streams: 0 };
    faults[name] = { complete: own.complete + row.complete, streams: own.streams + row.streams };
  }
  return {
    streams: a.streams + b.streams,
    verdicts,
    faults,
    bad: [...a.bad, ...b.bad].slice(0, 20),
  };
}

async function seen(): Promise<{ lockstep: SeenTally; litellm: SeenTally | null }> {
  const toy = await makeToy();
  const upstream = await faultyUpstream(toy.files.contract.digest);
  const opened = new Opened(toy);
  try {
    const { url } = await opened.relay([upstream.url]);
    const lockstep = await askMany(url, seed, Number(values.sockets));
    if (Number(values.litellm) === 0) return { lockstep, litellm: null };
    const proxy = await startLitellm(upstream.url);
    try {
      return {
        lockstep,
        litellm: await askMany(proxy.url, seed, Number(values.litellm), { headers: proxy.headers }),
      };
    } finally {
      await proxy.close();
    }
  } finally {
    await opened.close();
    await upstream.close();
    await rm(toy.dir, { recursive: true, force: true });
  }
}

if (values.part === undefined) {
  const since = performance.now();
  const tally = await parse();
  process.stdout.write(`parser: ${JSON.stringify(tally.verdicts)} of ${tally.streams} streams\n`);
  const seconds = Math.round((performance.now() - since) / 1000);
  const clients = await seen();
  for (const [name, one] of Object.entries(clients)) {
    if (one !== null)
      process.stdout.write(`${name}: ${JSON.stringify(one.seen)} of ${one.streams}\n`);
  }
  record('streams', { seed, seconds, parser: tally, ...clients, litellmVersion: LITELLM });
} else {
  const [from, count] = values.part.split(':').map(Number) as [number, number];
  process.send?.(await judgeMany(from, count));
  process.disconnect();
}
