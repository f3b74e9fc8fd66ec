// SmolLM2-135M learns to run in segments on Shakespeare; Paradise Lost is held out.
//
// Which layers look back was measured (18 of the 90 KV heads, gates), and stands in heads.json:
//   lockstep profile .lockstep/models/smollm2-135m-instruct --heads 18 --layers 6 --length 1024
//     --steps 24 --config examples/quickstart/lockstep.config.ts --out examples/quickstart/heads.json
import { defineConfig, sentences } from 'lockstep';
import heads from './heads.json' with { type: 'json' };

export default defineConfig({
  model: '../../.lockstep/models/smollm2-135m-instruct',
  out: '../../.lockstep/runs/quickstart',
  policy: sentences(),
  segment: { min: 384, max: 512 },
  carry: { size: 128, sinks: 4 },
  retrieval: { size: 512, ...heads.retrieval },
  heads: heads.heads,
  data: { train: ['../../.lockstep/texts/shakespeare/*.txt'] },
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
