// Two processes share every optimizer step: sequences 0, 2, 4, … to the first, 1, 3, 5, … to the second.
import { defineConfig } from 'lockstep';
import quickstart from '../quickstart/lockstep.config.ts';

export default defineConfig({
  ...quickstart,
  out: '../../.lockstep/runs/two-processes',
  training: {
    steps: 12,
    sequence: 1024,
    truncation: 1,
    // Over all processes together, so that a step is the same step with any number of them.
    batch: 2,
    learningRate: 3e-4,
    warmup: 0.1,
    trainable: 'attention',
  },
});
