// How much memory a server of a tiny model holds after bodies of megabytes, by malloc's arenas.
//
// usage: npx tsx bench/serving/bodies.ts [--bodies 60]
//
// One client sends texts of up to 5 MB to `/tokenize`, one by one. Node, V8's threads and libuv's threads
// allocate; glibc gives each of them an arena of its own and keeps there what was freed. Writes raw/bodies.json.
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { makeTiny } from './checkpoint.ts';
import { post } from './clients.ts';
import { freePort } from './free-port.ts';
import { Front } from './front.ts';
import { record } from './record.ts';

const { values } = parseArgs({ options: { bodies: { type: 'string', default: '60' } } });
const bodies = Number(values.bodies);
const LONGEST = 5_000_000;
/** After this many seconds without a request V8 and malloc have given back what they give back. */
const QUIET = 20;

/** MiB of resident memory. */
export interface BodiesRow {
  /** MALLOC_ARENA_MAX; null: not set. */
  arenas: number | null;
  start: number;
  most: number;
  last: number;
}

async function measure(dir: string, arenas: number | null): Promise<BodiesRow> {
  const env = { MALLOC_ARENA_MAX: arenas === null ? undefined : String(arenas) };
  const front = new Front('onnx', await freePort(), [dir, '--threads', '1'], env);
  const mib = () => Math.round((front.memory() ?? Number.NaN) / 2 ** 20);
  await front.start();
  try {
    const start = mib();
    let most = start;
    for (let i = 0; i < bodies; i++) {
      const text = 'x'.repeat(1000 + ((i * 1_237_000) % LONGEST));
      const response = await post({ url: front.url, headers: {} }, '/tokenize', { text });
      await response.arrayBuffer();
      most = Math.max(most, mib());
    }
    await sleep(QUIET * 1000);
    return { arenas, start, most, last: mib() };
  } finally {
    await front.stop('SIGTERM');
  }
}

const folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-bodies-'));
try {
  const dir = await makeTiny(path.join(folder, 'one'));
  const rows: BodiesRow[] = [];
  for (const arenas of [null, 2, 1, null, 2, 1]) {
    rows.push(await measure(dir, arenas));
    process.stderr.write(`${JSON.stringify(rows.at(-1))}\n`);
  }
  record('bodies', { bodies, longest: LONGEST, quiet: QUIET, rows });
} finally {
  await rm(folder, { recursive: true, force: true });
}
