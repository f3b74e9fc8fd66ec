// A chat's turns: time to the first token with and without a prefix cache.
//
// usage: npx tsx bench/turns.ts DIR TEXT [--engines onnx:fp32,torch:float32] [--turns 8] [--words 300]
//          [--answer 24] [--rounds 3] [--threads 1] [--json FILE]
//
// DIR is an attached and exported checkpoint with a chat template. A server over a real socket, with
// and without a prefix cache; both hold the same chat: each turn brings `--words` new words of TEXT and gets
// `--answer` tokens. Between two turns the client reads: it waits until the engine runs nothing, so
// that the answer ran again as a prompt where there is a cache. The chats of both take turns, each round has
// a text of its own; times are medians over the rounds. One JSON object; only ratios within one run
// mean anything.
import { readFile, writeFile } from 'node:fs/promises';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import OpenAI from 'openai';
import { readContract } from '../src/checkpoint/index.ts';
import type { Engine } from '../src/engines/engine.ts';
import { openOnnxEngine, type Precision } from '../src/engines/onnx.ts';
import { openTorchEngine, type TorchDtype } from '../src/engines/torch.ts';
import { createServer } from '../src/server/index.ts';
import { loadTokenizer } from '../src/tokenizer/tokenizer.ts';
import { median } from './median.ts';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    engines: { type: 'string', default: 'onnx:fp32,torch:float32' },
    turns: { type: 'string', default: '8' },
    words: { type: 'string', default: '300' },
    answer: { type: 'string', default: '24' },
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: '1' },
    json: { type: 'string' },
  },
});
const [dir, text] = positionals;
if (dir === undefined || text === undefined) throw new Error('expected DIR and TEXT, got less');
const [turns, words, answer, rounds, threads] = [
  Number(values.turns),
  Number(values.words),
  Number(values.answer),
  Number(values.rounds),
  Number(values.threads),
];

interface Turn {
  turn: number;
  promptTokens: number;
  cachedTokens: number;
  /** Median, until the first token of the answer came. */
  milliseconds: number;
  /** Median of the processor time that this process took for it: client, server and the onnx engine. */
  cpuMilliseconds: number;
}

interface Chat {
  client: OpenAI;
  url: string;
  messages: OpenAI.ChatCompletionMessageParam[];
}

function open(name: string): Promise<Engine> {
  const [kind, precision] = name.split(':') as [string, string];
  if (kind === 'onnx') {
    return openOnnxEngine(dir as string, { precision: precision as Precision, threads });
  }
  return openTorchEngine(dir as string, { dtype: precision as TorchDtype, threads });
}

/** One turn of a chat; what it took to the first token. */
async function ask({ client, url, messages }: Chat, content: string) {
  messages.push({ role: 'user', content });
  const started = performance.now();
  const before = process.cpuUsage();
  const stream = await client.chat.completions.create({
    model: 'bench',
    messages,
    max_tokens: answer,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
    // The answers have one length.
    ...{ ignore_eos: true },
  });
  let milliseconds = Number.NaN;
  let cpuMilliseconds = Number.NaN;
  let said = '';
  let usage: OpenAI.CompletionUsage | undefined;
  for await (const chunk of stream) {
    const piece = chunk.choices[0]?.delta.content ?? '';
    if (piece !== '' && Number.isNaN(milliseconds)) {
      milliseconds = performance.now() - started;
      const { user, system } = process.cpuUsage(before);
      cpuMilliseconds = (user + system) / 1000;
    }
    said += piece;
    usage = chunk.usage ?? usage;
  }
  messages.push({ role: 'assistant', content: said });
  for (;;) {
    const { sessions } = (await (await fetch(`${url}/lockstep/engine`)).json()) as {
      sessions: number;
    };
    if (sessions === 0) break;
    await sleep(100);
  }
  return {
    milliseconds,
    cpuMilliseconds,
    promptTokens: usage?.prompt_tokens ?? 0,
    cachedTokens: usage?.prompt_tokens_details?.cached_tokens ?? 0,
  };
}

async function measure(name: string, source: readonly string[]) {
  const contract = await readContract(dir as string);
  const tokenizer = await loadTokenizer(dir as string);
  const kinds = { with: undefined, without: 0 } as const;
  const servers = await Promise.all(
    Object.entries(kinds).map(async ([kind, cacheBytes]) => {
      const options = { model: 'bench', ...(cacheBytes === undefined ? {} : { cacheBytes }) };
      const server = createServer({ engine: await open(name), tokenizer, contract, options });
      const { url } = await server.listen(0);
      const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });
      return { kind, server, url, client };
    }),
  );
  const seen = new Map<string, Awaited<ReturnType<typeof ask>>[]>();
  // The first round warms both up and is not counted.
  for (let round = -1; round < rounds; round++) {
    const chats = servers.map((one) => ({ ...one, messages: [] as Chat['messages'] }));
    for (let turn = 0; turn < (round < 0 ? 2 : turns); turn++) {
      const from = ((round + 1) * turns + turn) * words;
      const content = source.slice(from, from + words).join(' ');
      for (const chat of chats) {
        const found = await ask(chat, content);
        const key = `${chat.kind} ${turn + 1}`;
        if (round >= 0) seen.set(key, [...(seen.get(key) ?? []), found]);
      }
    }
  }
  for (const { server } of servers) await server.close();
  const row = (kind: string): Turn[] =>
    Array.from({ length: turns }, (_, i) => {
      const all = seen.get(`${kind} ${i + 1}`) ?? [];
      const { promptTokens = 0, cachedTokens = 0 } = all[0] ?? {};
      return {
        turn: i + 1,
        promptTokens,
        cachedTokens,
        milliseconds: Math.round(median(all.map((one) => one.milliseconds))),
        cpuMilliseconds: Math.round(median(all.map((one) => one.cpuMilliseconds))),
      };
    });
  const [cached, none] = [row('with'), row('without')];
  // Time on the clock is everybody's on a machine that others use too; the onnx engine's own is not.
  const measured = name.startsWith('onnx') ? 'cpuMilliseconds' : 'milliseconds';
  const ratio = (list: Turn[]) =>
    Number(((list.at(-1)?.[measured] ?? 0) / (list[0]?.[measured] ?? 1)).toFixed(2));
  return {
    engine: name,
    with: cached,
    without: none,
    measured,
    ratio: { with: ratio(cached), without: ratio(none) },
  };
}

const source = (await readFile(text, 'utf8')).split(/\s+/).slice(2_000);
const rows = [];
for (const name of values.engines.split(',')) {
  const row = await measure(name, source);
  console.log(JSON.stringify(row));
  rows.push(row);
}
const { cpus, loadavg } = os;
const raw = {
  command: 'npm run bench -- turns',
  date: new Date().toISOString().slice(0, 10),
  machine: { cpu: cpus()[0]?.model ?? '', cores: cpus().length, threads },
  load: loadavg()[0],
  settings: { turns, words, answer, rounds, target: 1.3 },
  rows,
};
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(raw, null, 2)}\n`);
