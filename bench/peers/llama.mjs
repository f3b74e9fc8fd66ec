// llama.cpp over given tokens: prefill, decode, memory, and log p of each token. One JSON object on stdout.
//
// usage: node bench/peers/llama.mjs IDS.json MARKS DECODE THREADS
//
// At each mark the next DECODE tokens are run one at a time, each with a choice of the next one, as decoding
// does. log p is of the tokens up to the last mark but the first, from the logits, in a context of its own.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { folder, gguf, setUp, version } from './inputs.mjs';

await setUp();
const [file, given, decode, threads] = process.argv.slice(2);
const ids = JSON.parse(readFileSync(file, 'utf8'));
const marks = given.split(',').map(Number);
const entry = path.join(folder, 'node_modules', 'node-llama-cpp', 'dist', 'index.js');
const { getLlama } = await import(pathToFileURL(entry).href);

const llama = await getLlama({
  gpu: false,
  build: 'never',
  maxThreads: Number(threads),
  logLevel: 'error',
});
const model = await llama.loadModel({ modelPath: gguf });

async function inContext(work) {
  const context = await model.createContext({
    contextSize: Math.max(...marks) + Number(decode) + 1,
    batchSize: 512,
    threads: Number(threads),
  });
  try {
    return await work(context.getSequence(), context);
  } finally {
    await context.dispose();
  }
}

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

const rows = await inContext(async (sequence, context) => {
  await sequence.evaluateWithoutGeneratingNewTokens(ids.slice(0, 64));
  await sequence.clearHistory();
  const out = [];
  let at = 0;
  for (const mark of marks) {
    let started = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(ids.slice(at, mark));
    const prefillPerSecond = ((mark - at) / (performance.now() - started)) * 1000;
    const times = [];
    for (at = mark; at < mark + Number(decode); at++) {
      started = performance.now();
      await sequence.controlledEvaluate([[ids[at], { generateNext: { token: true } }]]);
      times.push(performance.now() - started);
    }
    const decodeMs = median(times);
    out.push({ context: mark, prefillPerSecond, decodeMs, held: context.stateSize });
  }
  return out;
});

const logps = await inContext(async (sequence) => {
  const out = [];
  const longest = Math.max(...marks);
  for (let at = 0; at < longest - 1; at += 512) {
    const end = Math.min(longest - 1, at + 512);
    const asked = ids.slice(at, end).map((id, i) => [
      id,
      {
        generateNext: {
          logits: { filter: { tokens: [ids[at + i + 1]], includeTop: 1 } },
          totalLogitWeight: true,
          // Of all tokens: the default is greedy, and looks at one.
          options: { temperature: 1, topK: 0, topP: 1, minP: 0 },
        },
      },
    ]);
    const found = await sequence.controlledEvaluate(asked);
    found.forEach(({ next }, i) => {
      const logits = next.logits;
      const most = Math.max(...logits.values());
      out.push(logits.get(ids[at + i + 1]) - most - Math.log(next.totalLogitWeight));
    });
  }
  return out;
});

process.stdout.write(`${JSON.stringify({ version, rows, logps })}\n`);
process.exit(0);
