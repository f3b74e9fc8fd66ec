// SmolLM2-135M learns to run in segments on Shakespeare; Paradise Lost is held out.
//
// Which heads retrieve was measured (27 of the 90 KV heads, by what answers copy), and stands in heads.json:
//   lockstep profile .lockstep/models/smollm2-135m-instruct --method recall --heads 27 --length 1024
//     --needles 24 --data '.lockstep/texts/shakespeare/*.txt' --out examples/quickstart/heads.json
import { after, anyOf, defineConfig, sentences, turns } from 'lockstep';
import heads from './heads.json' with { type: 'json' };

export default defineConfig({
  model: '../../.lockstep/models/smollm2-135m-instruct',
  out: '../../.lockstep/runs/quickstart',
  // Prose is cut at ends of sentences, a chat also before each answer: so the question chooses what the answer sees.
  policy: anyOf(after(sentences(), 384), turns()),
  segment: { max: 512 },
  carry: { size: 256, sinks: 4, heads: 'all' },
  retrieval: { size: 512, recipe: 'blocks', window: 16, ...heads.retrieval },
  heads: heads.heads,
  data: {
    train: ['../../.lockstep/texts/shakespeare/*.txt'],
    // Half of the tokens ask for needles that were read segments ago, in wordings that no measurement uses.
    recall: { share: 0.5, needles: 5 },
  },
  training: {
    minutes: 4,
    sequence: 1024,
    truncation: 1,
    learningRate: 3e-4,
    warmup: 0.1,
    trainable: 'attention',
    seed: 0,
  },
});
