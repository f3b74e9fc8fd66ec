// The paper's setting for Llama-2-7B on one 80 GB card: S = 4096, M = R = 512, K = 1, four long layers.
import { defineConfig, fixed } from 'lockstep';

const retrieving = [8, 14, 20, 26];
const half = Array.from({ length: 16 }, (_, head) => head);

export default defineConfig({
  model: '../../.lockstep/models/llama-2-7b',
  out: '../../.lockstep/runs/llama-2-7b',
  policy: fixed({ size: 4096 }),
  segment: { min: 4096, max: 4096, align: 16 },
  // The paper keeps no sinks (0); four of them are worth more than anything else here.
  carry: { size: 512, sinks: 4 },
  retrieval: { size: 512, recipe: 'anchors', layers: retrieving },
  heads: {
    long: Array.from({ length: 32 }, (_, layer) => (retrieving.includes(layer) ? half : [])),
  },
  // Llama's tokenizer begins every text with <s>.
  bos: true,
  data: { train: ['texts/train/*.jsonl'], validation: ['texts/held-out/*.jsonl'] },
  training: {
    steps: 1000,
    sequence: 16384,
    truncation: 1,
    batch: 1,
    accumulate: 8,
    precision: 'bfloat16',
    recompute: true,
    learningRate: 2e-4,
    lora: { rank: 16, alpha: 32, modules: ['q_proj', 'k_proj', 'v_proj', 'o_proj'] },
    validateEvery: 100,
    saveEvery: 100,
    keep: 2,
  },
});
