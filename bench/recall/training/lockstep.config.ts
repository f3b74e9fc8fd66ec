// What training adds to recall: half of all tokens are recall documents (SmolLM2-135M, two cores). `adds.py` sets
// `RECALL_TRUNCATION` (K, 1) and `RECALL_CUTS` ("fixed": every 512 tokens, whatever they say).
import { after, anyOf, defineConfig, fixed, sentences, turns } from 'lockstep';
import heads from '../profile.json' with { type: 'json' };

const truncation = Number(process.env['RECALL_TRUNCATION'] ?? 1);
const policy =
  process.env['RECALL_CUTS'] === 'fixed'
    ? fixed({ size: 512 })
    : anyOf(after(sentences(), 384), turns());

export default defineConfig({
  model: '../../../.lockstep/models/smollm2-135m-instruct',
  out: '../../../.lockstep/runs/recall-trained',
  policy,
  segment: { max: 512 },
  carry: { size: 256, sinks: 4, heads: 'all' },
  retrieval: { size: 512, recipe: 'blocks', window: 16, ...heads.retrieval },
  heads: heads.heads,
  data: {
    train: ['../../../.lockstep/texts/shakespeare/*.txt'],
    recall: { share: 0.5, needles: 5 },
  },
  training: {
    steps: 20,
    sequence: 2048,
    truncation,
    learningRate: 3e-4,
    warmup: 0.1,
    trainable: 'attention',
    seed: 0,
  },
});
