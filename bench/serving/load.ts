// Mixed load on three servers for a while: clients that vanish, read slowly, send megabytes or nonsense, while
// engines and servers are killed, stopped and started again, and keys and models are changed.
//
// usage: npx tsx bench/serving/load.ts [--minutes 60] [--clients 12] [--seed 1] [--no-keys] [--vllm]
//
// `onnx` is a tiny model with real numbers; its answers are compared with those of the trainer's operator in
// PyTorch (reference.ts). `relay` stands in front of two fake vLLMs, whose answers can be foreseen; one of
// them is killed every 20 seconds. `models` has two models (`serve --config`); the second comes and goes by
// SIGHUP. `--vllm` adds the real vLLM with the same tiny model; its engine process is killed now and then.
// Writes raw/load.json (`--vllm`: raw/load-vllm.json); `npx tsx bench/serving/report.ts` writes RESULTS.md.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { findPython } from '../../src/bridge/index.ts';
import { writeContract } from '../../src/checkpoint/index.ts';
import { vllmModules } from '../../src/engines/vllm/index.ts';
import { packageRoot } from '../../src/paths.ts';
import { documentedErrors } from '../../test/helpers/documented-errors.ts';
import { randomIntegers } from '../../test/helpers/random.ts';
import { readOpenApi } from '../../test/malformed/openapi.ts';
import { malformedRequests } from '../../test/malformed/requests.ts';
import { commandLine, descendants } from '../../test/processes.ts';
import { makeToy } from '../../test/server-toy.ts';
import { foreseen } from '../../test/vllm-foreseen.ts';
import { makeTiny } from './checkpoint.ts';
import * as clients from './clients.ts';
import { Fake } from './fake.ts';
import { freePort } from './free-port.ts';
import { Front } from './front.ts';
import { growthOf, MAX_GROWTH, type MemoryRow } from './memory.ts';
import { raw, record } from './record.ts';
import { referenceOf } from './reference.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    clients: { type: 'string', default: '12' },
    seed: { type: 'string', default: '1' },
    'no-keys': { type: 'boolean', default: false },
    vllm: { type: 'boolean', default: false },
  },
});
const minutes = Number(values.minutes);
const total = minutes * 60_000;
/** Prompts that the onnx server is asked, and lengths of its answers. */
const [QUESTIONS, LENGTHS] = [40, [8, 24, 60]];

type Server = { front: Front; targets: clients.Target[] };

interface Row extends MemoryRow {
  minute: number;
  /** Requests that have come to an end. */
  requests: number;
}

const outcomes: Record<string, Record<string, number>> = {};
const errors: Record<string, number> = {};
const problems: string[] = [];
const events: Record<string, number> = {};
const rows: Row[] = [];
let requests = 0;

function count(kind: string, { came, detail }: clients.Outcome, front: Front, from: number): void {
  let name: string = came;
  // SIGTERM refuses newcomers; only SIGKILL may cut what has begun.
  if (came === 'refused' && front.wasDown(from)) name = 'refused while it was down';
  if (came === 'broken' && front.wasDown(from, 'SIGKILL')) name = 'cut by SIGKILL';
  outcomes[kind] ??= {};
  const row = outcomes[kind] as Record<string, number>;
  row[name] = (row[name] ?? 0) + 1;
  requests += 1;
  if (came === 'error' && detail !== undefined) errors[detail] = (errors[detail] ?? 0) + 1;
  if (['wrong', 'other', 'unlisted', 'broken', 'refused'].includes(name) && problems.length < 50) {
    problems.push(`${kind}: ${name}: ${detail ?? ''}`);
  }
}

const lockstep = (...args: string[]): string =>
  execFileSync(process.execPath, [path.join(packageRoot, 'dist', 'cli', 'main.js'), ...args], {
    encoding: 'utf8',
  });

const prompts = Array.from(
  { length: QUESTIONS },
  (_, i) => `client-${i}. The rain fell in torrents, ${'and fell '.repeat(i % 7)}at night. Then?`,
);

async function main(): Promise<void> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'lockstep-load-'));
  const toy = await makeToy();
  const fakes: Fake[] = [];
  const servers: Server[] = [];
  try {
    const files = await writeContract(toy.dir, toy.files);
    fakes.push(...(await Promise.all([0, 1].map(() => Fake.start(files.contract.digest)))));
    const keys = path.join(folder, 'keys.json');
    const headers: Record<string, string> = {};
    const access: string[] = [];
    if (!values['no-keys']) {
      const { key } = JSON.parse(lockstep('keys', 'add', keys, 'load', '--metrics', '--json'));
      headers['authorization'] = `Bearer ${key}`;
      access.push('--keys', keys);
    }
    const documented = documentedErrors();
    const tiny = await makeTiny(path.join(folder, 'one'));
    const other = await makeTiny(path.join(folder, 'two'), 2, 24);
    const config = new ModelsFile(folder, tiny, other);
    const onnx = new Front('onnx', await freePort(), [tiny, '--threads', '1', ...access]);
    const models = new Front('models', await freePort(), ['--config', config.path, ...access]);
    const upstreams = fakes.map(({ url }) => url);
    const relay = new Front('relay', await freePort(), [
      ...[toy.dir, '--engine', 'vllm', '--max-sessions', '32', ...access],
      ...['--upstream', ...upstreams],
    ]);
    const vllm = values.vllm ? await vllmFront(tiny, access) : null;
    await Promise.all([onnx, relay, models, vllm].map((front) => front?.start()));
    const expected = await referenceOf(tiny, prompts, LENGTHS);
    const request = { headers, documented };
    servers.push(
      { front: onnx, targets: [{ ...request, url: onnx.url, expected }] },
      { front: relay, targets: [{ ...request, url: relay.url, expected: foreseen }] },
      {
        front: models,
        targets: [
          { ...request, url: models.url, model: 'stays', expected },
          {
            ...request,
            url: models.url,
            model: 'comes and goes',
            expected: await referenceOf(other, prompts, LENGTHS),
          },
        ],
      },
    );
    if (vllm !== null) {
      servers.push({ front: vllm, targets: [{ ...request, url: vllm.url, expected }] });
    }
    process.stderr.write(`load for ${minutes} minutes\n`);
    await load(servers, fakes, config, access.length > 0 ? keys : null);
    for (const { front } of servers) {
      const code = await front.stop('SIGTERM');
      if (code !== 0) problems.push(`${front.name}: exit code ${code} after SIGTERM`);
    }
  } finally {
    await Promise.all(servers.map(({ front }) => front.stop('SIGKILL').catch(() => null)));
    for (const fake of fakes) fake.kill();
    await rm(folder, { recursive: true, force: true });
    await rm(toy.dir, { recursive: true, force: true });
  }
  for (const { front } of servers) {
    const grown = growthOf(rows, front.name);
    if (grown !== null && grown.last.median > MAX_GROWTH * grown.middle.median) {
      const [middle, last] = [grown.middle.median, grown.last.median];
      problems.push(`${front.name}: memory grew from ${middle} to ${last} MiB`);
    }
  }
  const result = { minutes, requests, outcomes, errors, events, problems, rows };
  record('load', result, path.join(raw, values.vllm ? 'load-vllm.json' : 'load.json'));
  process.stdout.write(
    `${JSON.stringify({ requests, outcomes, errors, events, problems }, null, 1)}\n`,
  );
  if (problems.length > 0) process.exitCode = 1;
}

/** The file of the server with two models. */
class ModelsFile {
  readonly path: string;
  readonly #dirs: [stays: string, comesAndGoes: string];
  #both = false;

  constructor(folder: string, ...dirs: [string, string]) {
    this.path = path.join(folder, 'serve.config.json');
    this.#dirs = dirs;
    this.change();
  }

  /** Take the second model out, or put it in. */
  change(): void {
    this.#both = !this.#both;
    const names = this.#both ? ['stays', 'comes and goes'] : ['stays'];
    const models = names.map((name, i) => ({ name, dir: this.#dirs[i], threads: 1 }));
    writeFileSync(this.path, JSON.stringify({ models }));
  }
}

/** A server with a vLLM of its own. */
async function vllmFront(dir: string, access: readonly string[]): Promise<Front> {
  const { executable } = await findPython({ modules: vllmModules });
  return new Front('vllm', await freePort(), [
    ...[dir, '--engine', 'vllm', '--python', executable, '--max-tokens', '1024', ...access],
    ...['--', '--enforce-eager', '--max-num-seqs', '16'],
  ]);
}

/** Kill vLLM's engine process; the server starts it again. */
function killEngine({ pid }: Front): boolean {
  const engine = descendants(pid).find((one) => commandLine(one).includes('EngineCore'));
  if (engine !== undefined) process.kill(engine, 'SIGKILL');
  return engine !== undefined;
}

async function load(
  servers: Server[],
  fakes: Fake[],
  config: ModelsFile,
  keys: string | null,
): Promise<void> {
  const since = performance.now();
  const over = () => performance.now() - since >= total;
  const happened = (name: string) => {
    events[name] = (events[name] ?? 0) + 1;
  };
  const every = async (seconds: number, act: (turn: number) => Promise<void> | void) => {
    for (let turn = 0; ; turn++) {
      const until = since + (turn + 1) * seconds * 1000;
      while (performance.now() < until && !over()) await sleep(100);
      if (over()) return;
      await act(turn);
    }
  };
  const [onnx, relay, models, vllm] = servers as [Server, Server, Server, Server?];
  await Promise.all([
    ...Array.from({ length: Number(values.clients) }, (_, i) => client(i, servers, over)),
    every(20, async (turn) => {
      happened('an engine killed and started again');
      await (fakes[turn % fakes.length] as Fake).again();
    }),
    // Six times in a run each, whatever its length: memory is watched in between.
    every((minutes * 60) / 7, async () => {
      happened('the relay’s server killed');
      await relay.front.restart('SIGKILL');
    }),
    every((minutes * 60) / 4, async () => {
      happened('the onnx server stopped by SIGTERM');
      const code = await onnx.front.restart('SIGTERM');
      if (code !== 0) problems.push(`onnx: exit code ${code} after SIGTERM`);
    }),
    // Five times in a run. In an hour it is ready for more than five minutes in between: it is no crash loop.
    every((minutes * 60) / 6, () => {
      if (vllm !== undefined && killEngine(vllm.front))
        happened('the engine process of vLLM killed');
    }),
    every(10, (turn) => {
      if (keys === null) return;
      happened('keys changed and read again');
      if (turn % 2 === 0) lockstep('keys', 'add', keys, 'guest', '--json');
      else lockstep('keys', 'revoke', keys, 'guest', '--json');
      for (const { front } of servers) front.signal('SIGHUP');
    }),
    every(7, () => {
      happened('a model added or removed');
      config.change();
      models.front.signal('SIGHUP');
    }),
    every(Math.min(60, total / 8000), () => {
      rows.push({
        minute: Math.round((performance.now() - since) / 600) / 100,
        memory: Object.fromEntries(servers.map(({ front }) => [front.name, mib(front.memory())])),
        age: Object.fromEntries(
          servers.map(({ front }) => [front.name, Math.round(front.age / 1000)]),
        ),
        requests,
      });
    }),
  ]);
}

async function client(who: number, servers: Server[], over: () => boolean): Promise<void> {
  const seed = Number(values.seed) * 1000 + who;
  const random = randomIntegers(Math.imul(seed + 1, 2654435761));
  const nonsense = malformedRequests(readOpenApi(), seed, 200);
  for (let turn = 0; !over(); turn++) {
    const { front, targets } = servers[random(servers.length)] as Server;
    const target = targets[random(targets.length)] as clients.Target;
    const prompt = prompts[random(QUESTIONS)] as string;
    const question = { prompt, most: LENGTHS[random(LENGTHS.length)] as number };
    const kind = random(20);
    const from = performance.now();
    let [name, asked]: [string, () => Promise<clients.Outcome>] = [
      'stream',
      () => clients.streamed(target, question),
    ];
    if (kind < 5) [name, asked] = ['whole', () => clients.whole(target, question)];
    else if (kind < 8) {
      [name, asked] = ['vanishing', () => clients.vanishing(target, question, random(400))];
    } else if (kind < 10) [name, asked] = ['slow reader', () => clients.slow(target, question)];
    else if (kind === 10) {
      const bytes = 1000 * (1 + random(5000));
      [name, asked] = ['large body', () => clients.large(target, bytes)];
    } else if (kind < 13) {
      const request = nonsense[turn % nonsense.length];
      if (request !== undefined) {
        [name, asked] = ['malformed', () => clients.malformed(target, request)];
      }
    }
    const outcome = await asked().catch(
      (error: unknown): clients.Outcome => ({
        came: error instanceof clients.Refused ? 'refused' : 'broken',
        detail: String(error),
      }),
    );
    count(`${front.name}: ${name}`, outcome, front, from);
    // Servers that are down are asked now and then.
    while (front.wasDown(performance.now()) && random(8) > 0 && !over()) await sleep(200);
  }
}

function mib(bytes: number | null): number | null {
  return bytes === null ? null : Math.round(bytes / 2 ** 20);
}

await main();
