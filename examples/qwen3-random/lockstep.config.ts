// A random Qwen3 (make.py makes it) learns Shakespeare in short segments: for trying things.
import { defineConfig, sentences } from 'lockstep';

export default defineConfig({
  model: '../../.lockstep/models/qwen3-random',
  out: '../../.lockstep/runs/qwen3-random',
  policy: sentences(),
  segment: { min: 32, max: 64 },
  carry: { size: 16 },
  retrieval: { size: 32, layers: [2, 4] },
  // Of four KV heads, two in each layer that retrieves; their query heads follow them.
  heads: { long: [[], [], [0, 1], [], [0, 1], []] },
  data: { train: ['../../.lockstep/texts/shakespeare/*.txt'] },
  training: { steps: 50, sequence: 256, batch: 4, learningRate: 1e-3 },
});
