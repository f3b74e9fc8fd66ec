// SmolLM2-135M learns to run in segments on Shakespeare; Paradise Lost is held out.
import { defineConfig, sentences } from 'lockstep';

export default defineConfig({
  model: '../../.lockstep/models/smollm2-135m-instruct',
  out: '../../.lockstep/runs/quickstart',
  policy: sentences(),
  segment: { min: 256, max: 512 },
  carry: { size: 128, sinks: 4 },
  retrieval: { size: 128, layers: [10, 20] },
  // One KV head of the two retrieval layers looks back; every other head carries.
  heads: {
    long: Array.from({ length: 30 }, (_, layer) => (layer === 10 || layer === 20 ? [2] : [])),
  },
  data: { train: ['../../.lockstep/texts/shakespeare/*.txt'] },
  training: { minutes: 4, sequence: 1024, truncation: 1, learningRate: 1e-4, seed: 0 },
});
