// SmolLM2-135M learns to run in segments on Shakespeare; Paradise Lost is held out.
import { defineConfig, sentences } from 'lockstep';

// Every fourth layer looks back: its three KV heads retrieve instead of carrying.
const retrieving = [4, 8, 12, 16, 20, 24];

export default defineConfig({
  model: '../../.lockstep/models/smollm2-135m-instruct',
  out: '../../.lockstep/runs/quickstart',
  policy: sentences(),
  segment: { min: 384, max: 512 },
  carry: { size: 128, sinks: 4 },
  retrieval: { size: 512, layers: retrieving },
  heads: {
    long: Array.from({ length: 30 }, (_, layer) => (retrieving.includes(layer) ? [0, 1, 2] : [])),
  },
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
