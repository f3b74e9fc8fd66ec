// The config of the experiments and of the control: the quickstart's until 2026-11-28 (recipe `anchors`).
// Their tables in bench/RESULTS.md were measured with it.
import { defineConfig, sentences } from 'lockstep';
import heads from './heads.json' with { type: 'json' };

export default defineConfig({
  model: '../../../.lockstep/models/smollm2-135m-instruct',
  out: '../../../.lockstep/runs/quickstart',
  policy: sentences(),
  segment: { min: 384, max: 512 },
  carry: { size: 128, sinks: 4 },
  retrieval: { size: 512, ...heads.retrieval },
  heads: heads.heads,
  data: { train: ['../../../.lockstep/texts/shakespeare/*.txt'] },
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
