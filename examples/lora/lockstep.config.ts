// The quickstart's contract, trained through low-rank adapters: an optimizer state of megabytes.
import { defineConfig } from 'lockstep';
import quickstart from '../quickstart/lockstep.config.ts';

export default defineConfig({
  ...quickstart,
  out: '../../.lockstep/runs/lora',
  training: {
    minutes: 4,
    sequence: 1024,
    truncation: 1,
    // Adapters start at zero and want larger steps than weights do.
    learningRate: 1e-3,
    warmup: 0.1,
    lora: { rank: 16, alpha: 32, modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj'] },
  },
});
